import type { IncomingHttpHeaders } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";

/** A Node timer that is to wait longer fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

const MS_PER_UNIT: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

export type TimeoutHeader = "grpc-timeout" | "connect-timeout-ms";

/**
 * The timeout that holds for a call, in milliseconds: the shorter of the caller's and the server's (gRPC's rule). Undefined
 * without a limit.
 *
 * @param maxMs the server's limit; 0: none
 * @throws ConnectError INVALID_ARGUMENT for a header that is malformed
 */
export function timeoutOf(headers: IncomingHttpHeaders, name: TimeoutHeader, maxMs: number): number | undefined {
  const value = headers[name];
  if (value === undefined) return maxMs === 0 ? undefined : Math.min(maxMs, MAX_TIMER_MS);
  const givenMs = name === "grpc-timeout" ? readGrpcTimeout(String(value)) : readConnectTimeout(String(value));
  if (givenMs === undefined) {
    throw new ConnectError(`protocol error: invalid ${name}: ${JSON.stringify(value)}`, Code.InvalidArgument);
  }
  return Math.min(givenMs, maxMs === 0 ? MAX_TIMER_MS : maxMs, MAX_TIMER_MS);
}

/**
 * Rewrites a call's timeout header to the timeout that holds, for Connect's own handlers, which refuse one above their
 * limit. A malformed one stays for Connect to refuse.
 *
 * @returns the timeout that holds, in milliseconds; undefined when there is none
 */
export function cutTimeout(headers: IncomingHttpHeaders, maxMs: number): number | undefined {
  const name = /^application\/grpc/i.test(headers["content-type"] ?? "") ? "grpc-timeout" : "connect-timeout-ms";
  let timeoutMs: number | undefined;
  let givenMs: number | undefined;
  try {
    timeoutMs = timeoutOf(headers, name, maxMs);
    givenMs = headers[name] === undefined ? undefined : timeoutOf(headers, name, 0);
  } catch {
    return undefined;
  }
  if (timeoutMs === undefined || timeoutMs === givenMs) {
    // Longer than a timer can wait is no timeout for Connect either.
    if (timeoutMs !== MAX_TIMER_MS) return timeoutMs;
  }
  headers[name] = name === "grpc-timeout" ? formatGrpcTimeout(timeoutMs) : String(timeoutMs);
  return timeoutMs;
}

/** At most 8 digits and a unit. */
function readGrpcTimeout(value: string): number | undefined {
  const [, digits, unit = ""] = /^(\d{1,8})([HMSmun])$/.exec(value) ?? [];
  return digits === undefined ? undefined : Number(digits) * (MS_PER_UNIT[unit] ?? Number.NaN);
}

/** At most 10 digits. */
function readConnectTimeout(value: string): number | undefined {
  return /^\d{1,10}$/.test(value) ? Number(value) : undefined;
}

function formatGrpcTimeout(ms: number): string {
  return ms < 1e8 ? `${ms}m` : `${Math.floor(ms / 1_000)}S`;
}
