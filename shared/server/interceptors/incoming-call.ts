import { type CallContext, readContextHeaders } from "#shared/call-context";

/** The call context of an incoming call. */
export class IncomingCall implements CallContext {
  readonly method: string;
  readonly requestId: string;
  readonly trace: CallContext["trace"];
  readonly signal: AbortSignal;
  declare readonly caller?: string;
  declare readonly isRetried?: true;
  declare readonly deadlineMs?: number;

  /** @param deadlineMs on the clock of `performance.now()` */
  constructor(method: string, header: Headers, signal: AbortSignal, deadlineMs: number | undefined) {
    const { requestId, trace, caller, isRetried } = readContextHeaders(header);
    this.method = method;
    this.requestId = requestId;
    this.trace = trace;
    this.signal = signal;
    if (caller !== undefined) this.caller = caller;
    if (isRetried !== undefined) this.isRetried = isRetried;
    if (deadlineMs !== undefined) this.deadlineMs = deadlineMs;
  }
}
