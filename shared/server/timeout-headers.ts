import type { IncomingHttpHeaders } from "node:http";

const MS_PER_UNIT: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** A Node timer that is to wait longer fires at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Cuts a call's timeout to `maxMs` (0: to what a timer can wait), in the headers, so that Connect keeps it: Connect
 * itself refuses a timeout over its limit, where gRPC's way is that the shorter of the two holds. The header is the
 * protocol's own: `grpc-timeout` (at most 8 digits and a unit) or `connect-timeout-ms` (at most 10 digits). A malformed
 * one stays for Connect to refuse.
 *
 * @returns the timeout that holds, in milliseconds; undefined when there is none
 */
export function cutTimeout(headers: IncomingHttpHeaders, maxMs: number): number | undefined {
  const isGrpc = /^application\/grpc/i.test(headers["content-type"] ?? "");
  const name = isGrpc ? "grpc-timeout" : "connect-timeout-ms";
  const given = headers[name];
  if (given === undefined && maxMs === 0) return undefined;
  const limitMs = maxMs === 0 ? LONGEST_TIMER_MS : maxMs;
  if (given !== undefined) {
    const givenMs = isGrpc ? readGrpcTimeout(String(given)) : readConnectTimeout(String(given));
    if (givenMs === undefined || givenMs <= limitMs) return givenMs;
  }
  headers[name] = isGrpc ? formatGrpcTimeout(limitMs) : String(limitMs);
  return limitMs;
}

function readGrpcTimeout(value: string): number | undefined {
  const [, digits, unit = ""] = /^(\d{1,8})([HMSmun])$/.exec(value) ?? [];
  return digits === undefined ? undefined : Number(digits) * (MS_PER_UNIT[unit] ?? Number.NaN);
}

function readConnectTimeout(value: string): number | undefined {
  return /^\d{1,10}$/.test(value) ? Number(value) : undefined;
}

function formatGrpcTimeout(ms: number): string {
  return ms < 1e8 ? `${ms}m` : `${Math.floor(ms / 1_000)}S`;
}
