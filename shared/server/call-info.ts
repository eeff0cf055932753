import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { type ConnectError, createContextKey } from "@connectrpc/connect";

/** What the transport knows of a call and its interceptors do not: Connect's requests carry no peer and no deadline. */
export interface CallInfo {
  /** Address and port of the other end of the connection. */
  readonly peer: string;
  /** On the clock of `performance.now()`. */
  readonly startedAtMs: number;
  /** On the same clock; set once the method, and so its limit, is known. */
  deadlineMs?: number;
  /**
   * Set once an interceptor answers for the call's line in the access log. Called once, when nothing more will be
   * written, with a way to ask which failure the answer tells.
   */
  onEnd?: (answeredError: () => ConnectError | undefined) => void;
}

/** Undefined where interceptors run without this server, such as in Connect's router transport. */
export const callInfoKey = createContextKey<CallInfo | undefined>(undefined, {
  description: "what the transport knows of the call",
});

const infos = new WeakMap<object, CallInfo>();

/** Made when the request's headers are in. */
export function callInfoOf(request: IncomingMessage | Http2ServerRequest): CallInfo {
  const known = infos.get(request);
  if (known !== undefined) return known;
  const { remoteAddress = "", remotePort = 0 } = request.socket ?? {};
  const info: CallInfo = {
    peer: remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`,
    startedAtMs: performance.now(),
  };
  infos.set(request, info);
  return info;
}
