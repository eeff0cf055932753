import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import type { Socket } from "node:net";
import { type ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { DirectRequest } from "./direct/direct-call.ts";

/**
 * What the transport knows of a call and its interceptors do not: Connect's requests carry no peer and no deadline.
 *
 * This and whatever else lives as long as a call are classes, not object literals: while V8 warms up it finds the
 * literals of all calls in flight alive, and from then on puts those of each call where only a full collection frees
 * them, with all that they refer to.
 */
export class CallInfo {
  /** Address and port of the other end of the connection. */
  readonly peer: string;
  /** On the clock of `performance.now()`. */
  readonly startedAtMs = performance.now();
  /** On the same clock; set once the method, and so its limit, is known. */
  deadlineMs: number | undefined = undefined;
  /** Set once an interceptor answers for the call's line in the access log. */
  log: CallLog | undefined = undefined;
  /** What a unary call that takes the short path has beside its request. */
  unary: UnaryInfo | undefined = undefined;
  /** What a streaming call that takes the short path has beside its request. */
  stream: StreamInfo | undefined = undefined;

  constructor(peer: string) {
    this.peer = peer;
  }
}

export interface CallLog {
  /** Called once, when nothing more will be written, with a way to ask which failure the answer tells. */
  ended(answeredError: () => ConnectError | undefined): void;
}

export interface ShortCallInfo {
  readonly context: HandlerContext;
  /** The response has closed, answered or not. */
  closed(): void;
}

export type StreamInfo = ShortCallInfo;

export interface UnaryInfo extends ShortCallInfo {
  /** Called with its reason when the context's signal fires, for whom a listener for each call is too much. */
  onAbort: ((reason: unknown) => void) | undefined;
}

/** Undefined where interceptors run without this server, such as in Connect's router transport. */
export const callInfoKey = createContextKey<CallInfo | undefined>(undefined, {
  description: "what the transport knows of the call",
});

const infoOf = Symbol("call info");

type Request = IncomingMessage | Http2ServerRequest | DirectRequest;
type CalledBy = Request & { [infoOf]?: CallInfo };

/** Made when the request's headers are in. */
export function callInfoOf(request: CalledBy): CallInfo {
  request[infoOf] ??= new CallInfo(peerOf(request));
  return request[infoOf];
}

/** For a request that stands for another from now on. */
export function handCallInfo(request: CalledBy, info: CallInfo): void {
  request[infoOf] = info;
}

/** By connection: an HTTP/2 request makes a proxy of its socket each time that it is asked for it. */
const peers = new WeakMap<object, string>();

function peerOf(request: Request): string {
  const connection = "stream" in request ? request.stream.session : request.socket;
  const known = connection === undefined ? undefined : peers.get(connection);
  if (known !== undefined) return known;
  const { remoteAddress = "", remotePort = 0 }: Partial<Socket> = request.socket ?? {};
  const peer = remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
  if (connection !== undefined) peers.set(connection, peer);
  return peer;
}
