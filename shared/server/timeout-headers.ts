import type { IncomingHttpHeaders } from "node:http";

const MS_PER_UNIT: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/**
 * The caller's timeout in milliseconds: `grpc-timeout` (gRPC and gRPC-Web: at most 8 digits and a unit) or
 * `connect-timeout-ms` (at most 10 digits). Undefined when it is missing or malformed; Connect refuses the latter.
 */
export function readTimeoutMs(headers: IncomingHttpHeaders): number | undefined {
  const grpc = headers["grpc-timeout"];
  if (typeof grpc === "string") {
    const [, value, unit = ""] = /^(\d{1,8})([HMSmun])$/.exec(grpc) ?? [];
    return value === undefined ? undefined : Number(value) * (MS_PER_UNIT[unit] ?? Number.NaN);
  }
  const connect = headers["connect-timeout-ms"];
  return typeof connect === "string" && /^\d{1,10}$/.test(connect) ? Number(connect) : undefined;
}

/**
 * Cuts a longer or missing timeout to `maxMs`, in the headers, so that Connect keeps it. A malformed one stays for
 * Connect to refuse.
 */
export function clampTimeout(headers: IncomingHttpHeaders, maxMs: number): void {
  const isConnect = !headers["content-type"]?.startsWith("application/grpc");
  const name = isConnect ? "connect-timeout-ms" : "grpc-timeout";
  const timeoutMs = readTimeoutMs(headers);
  if (headers[name] !== undefined && !(timeoutMs !== undefined && timeoutMs > maxMs)) return;
  headers[name] = isConnect ? String(maxMs) : formatGrpcTimeout(maxMs);
}

function formatGrpcTimeout(ms: number): string {
  return ms < 1e8 ? `${ms}m` : `${Math.ceil(ms / 1_000)}S`;
}
