import type { Interceptor, StreamRequest, StreamResponse, UnaryRequest } from "@connectrpc/connect";
import { type CallContext, iterateInCall, readContextHeaders, runInCall } from "#shared/call-context";
import { callInfoKey } from "../call-info.ts";

/** Makes the incoming call what `currentCall()` answers in the handler and in all that it starts. */
export const callContextInterceptor: Interceptor = (next) => async (request) => {
  const call = contextOf(request);
  if (!request.stream) return runInCall(call, () => next(request));
  const response = await runInCall(call, () => next(request));
  if (!response.stream) return response;
  return { ...response, message: iterateInCall(call, response.message) } as StreamResponse;
};

function contextOf(request: UnaryRequest | StreamRequest): CallContext {
  const deadlineMs = request.contextValues.get(callInfoKey)?.deadlineMs;
  return {
    method: `${request.service.typeName}/${request.method.name}`,
    ...readContextHeaders(request.header),
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
    signal: request.signal,
  };
}
