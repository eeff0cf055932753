import { randomUUID } from "node:crypto";

/** Of a call of the references that are called in full. */
export const TIMEOUT_MS = 5_000;

/** New values for each call, as a caller in production sends them. */
export function callFields(): Readonly<Record<"traceparent" | "x-request-id", string>> {
  const traceId = randomUUID().replaceAll("-", "");
  return { traceparent: `00-${traceId}-${traceId.slice(16)}-01`, "x-request-id": randomUUID() };
}
