import type { Interceptor, StreamRequest, StreamResponse, UnaryRequest } from "@connectrpc/connect";
import { type CallContext, iterateInCall, readContextHeaders, runInCall } from "#shared/call-context";
import { callNext } from "#shared/rpc";
import { callInfoKey } from "../call-info.ts";

/** Makes the incoming call what `currentCall()` answers in the handler and in all that it starts. */
export const callContextInterceptor: Interceptor = (next) => (request) => {
  const call = new IncomingCall(request);
  const answer = runInCall(call, callNext, next, request);
  if (!request.stream) return answer;
  return answer.then((response) => {
    if (!response.stream) return response;
    return { ...response, message: iterateInCall(call, response.message) } as StreamResponse;
  });
};

class IncomingCall implements CallContext {
  readonly method: string;
  readonly requestId: string;
  readonly trace: CallContext["trace"];
  readonly signal: AbortSignal;
  declare readonly caller?: string;
  declare readonly isRetried?: true;
  declare readonly deadlineMs?: number;

  constructor({ service, method, header, signal, contextValues }: UnaryRequest | StreamRequest) {
    const { requestId, trace, caller, isRetried } = readContextHeaders(header);
    const deadlineMs = contextValues.get(callInfoKey)?.deadlineMs;
    this.method = `${service.typeName}/${method.name}`;
    this.requestId = requestId;
    this.trace = trace;
    this.signal = signal;
    if (caller !== undefined) this.caller = caller;
    if (isRetried !== undefined) this.isRetried = isRetried;
    if (deadlineMs !== undefined) this.deadlineMs = deadlineMs;
  }
}
