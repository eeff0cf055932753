const NAMES =
  "access-control-allow-origin access-control-expose-headers age alt-svc cache-control connect-accept-encoding " +
  "connect-content-encoding connect-protocol-version connection content-encoding content-length content-type date etag " +
  "expires keep-alive location retry-after server server-timing set-cookie strict-transport-security traceparent " +
  "tracestate trailer transfer-encoding vary via www-authenticate x-content-type-options x-powered-by x-request-id";

/**
 * The usual names of headers as peers write them, and in lower case: most answers have no other. It does not grow by
 * what peers send: what they make up would take the room, and hold the memory of the heads that it came in.
 */
const usualNames = new Map<string, string>(
  NAMES.split(" ").flatMap((name) => [
    [name, name],
    [name.replace(/\b[a-z]/g, (letter) => letter.toUpperCase()), name],
  ]),
);

/** @returns undefined when it is not a usual one */
export function usualHttp1Name(written: string): string | undefined {
  return usualNames.get(written);
}
