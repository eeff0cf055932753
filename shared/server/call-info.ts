import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { createContextKey } from "@connectrpc/connect";

/** What the transport knows of a call and its interceptors do not: Connect's requests carry no peer and no deadline. */
export interface CallInfo {
  /** Address and port of the other end of the connection. */
  readonly peer: string;
  /** On the clock of `performance.now()`. */
  readonly startedAtMs: number;
  /** On the same clock; set once the method, and so its limit, is known. */
  deadlineMs?: number;
  /** Set once an interceptor answers for the call's line in the access log. */
  isLogged: boolean;
}

export const callInfoKey = createContextKey<CallInfo>(
  { peer: "", startedAtMs: 0, isLogged: true },
  { description: "what the transport knows of the call" },
);

const infos = new WeakMap<object, CallInfo>();

/** Made when the request's headers are in. */
export function callInfoOf(request: IncomingMessage | Http2ServerRequest): CallInfo {
  const known = infos.get(request);
  if (known !== undefined) return known;
  const { remoteAddress = "", remotePort = 0 } = request.socket ?? {};
  const info: CallInfo = {
    peer: remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`,
    startedAtMs: performance.now(),
    isLogged: false,
  };
  infos.set(request, info);
  return info;
}
