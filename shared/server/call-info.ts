import { type ContextValues, createContextKey, createContextValues } from "@connectrpc/connect";
import type { FastifyRequest } from "fastify";
import { readTimeoutMs } from "./timeout-headers.ts";

/** What the transport knows of a call and its interceptors do not: Connect's requests carry no peer and no deadline. */
export interface CallInfo {
  /** Address and port of the other end of the connection. */
  readonly peer: string;
  /** On the clock of `performance.now()`. */
  readonly startedAtMs: number;
  readonly deadlineMs?: number;
  /** Set once an interceptor answers for the call's line in the access log. */
  isLogged: boolean;
}

export const callInfoKey = createContextKey<CallInfo>(
  { peer: "", startedAtMs: 0, isLogged: true },
  { description: "what the transport knows of the call" },
);

const infos = new WeakMap<object, CallInfo>();

/** Made when the request's headers are in, after the deadline was cut. */
export function callInfoOf(request: FastifyRequest): CallInfo {
  const known = infos.get(request.raw);
  if (known !== undefined) return known;
  const startedAtMs = performance.now();
  const timeoutMs = readTimeoutMs(request.headers);
  const { remoteAddress = "", remotePort = 0 } = request.raw.socket;
  const info: CallInfo = {
    peer: remoteAddress.includes(":") ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`,
    startedAtMs,
    ...(timeoutMs === undefined ? {} : { deadlineMs: startedAtMs + timeoutMs }),
    isLogged: false,
  };
  infos.set(request.raw, info);
  return info;
}

/** For `fastifyConnectPlugin`: hands the request's CallInfo to the interceptors. */
export function callContextValues(request: FastifyRequest): ContextValues {
  return createContextValues().set(callInfoKey, callInfoOf(request));
}
