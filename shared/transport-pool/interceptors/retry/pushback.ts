/** What a peer says about retries: to wait so many milliseconds, or to make none. Undefined: nothing. */
export type Pushback = number | "never" | undefined;

const HEADER = "grpc-retry-pushback-ms";
const LARGEST = 2 ** 31 - 1;

/**
 * Reads `grpc-retry-pushback-ms`, a signed int32 in ASCII (gRFC A6). Whatever is negative or no such number, and more
 * than one value, forbids to retry.
 */
export function readPushback(metadata: Headers): Pushback {
  const text = metadata.get(HEADER);
  if (text === null) return undefined;
  if (!/^\d{1,10}$/.test(text)) return "never";
  const ms = Number(text);
  return ms > LARGEST ? "never" : ms;
}
