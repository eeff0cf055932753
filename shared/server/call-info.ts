import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import type { Socket } from "node:net";
import { type ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";

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
  /** What a unary call that takes the short path has beside its request. */
  unary?: UnaryInfo;
  /** What a streaming call that takes the short path has beside its request. */
  stream?: StreamInfo;
  /** Called when the response closes, answered or not. */
  onClose?: () => void;
}

export interface StreamInfo {
  readonly context: HandlerContext;
}

export interface UnaryInfo {
  readonly context: HandlerContext;
  /** Called with its reason when the context's signal fires, for whom a listener for each call is too much. */
  onAbort?: (reason: unknown) => void;
}

/** Undefined where interceptors run without this server, such as in Connect's router transport. */
export const callInfoKey = createContextKey<CallInfo | undefined>(undefined, {
  description: "what the transport knows of the call",
});

const infoOf = Symbol("call info");

type CalledBy = (IncomingMessage | Http2ServerRequest) & { [infoOf]?: CallInfo };

/** Made when the request's headers are in. */
export function callInfoOf(request: CalledBy): CallInfo {
  request[infoOf] ??= { peer: peerOf(request), startedAtMs: performance.now() };
  return request[infoOf];
}

/** By connection: an HTTP/2 request makes a proxy of its socket each time that it is asked for it. */
const peers = new WeakMap<object, string>();

function peerOf(request: IncomingMessage | Http2ServerRequest): string {
  const connection = "stream" in request ? request.stream.session : request.socket;
  const known = connection === undefined ? undefined : peers.get(connection);
  if (known !== undefined) return known;
  const { remoteAddress = "", remotePort = 0 }: Partial<Socket> = request.socket ?? {};
  const peer = remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
  if (connection !== undefined) peers.set(connection, peer);
  return peer;
}
