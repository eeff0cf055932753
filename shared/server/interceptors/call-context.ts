import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { iterateInCall, runInCall } from "#shared/call-context";
import { callNext } from "#shared/rpc";
import { callInfoKey } from "./call-info.ts";
import { IncomingCall } from "./incoming-call.ts";

/** Makes the incoming call what `currentCall()` returns in the handler and in all that it starts. */
export const callContextInterceptor: Interceptor = (next) => (request) => {
  const { service, method, header, signal } = request;
  const call =
    request.contextValues.get(callInfoKey)?.callContext ??
    new IncomingCall(`${service.typeName}/${method.name}`, header, signal, undefined);
  const response = runInCall(call, callNext, next, request);
  if (!request.stream) return response;
  return response.then((streamed) => {
    if (!streamed.stream) return streamed;
    return { ...streamed, message: iterateInCall(call, streamed.message) } as StreamResponse;
  });
};
