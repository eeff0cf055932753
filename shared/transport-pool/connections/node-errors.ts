import { Code, ConnectError } from "@connectrpc/connect";

/** What stock Connect, which does not export it, makes of whatever Node or a signal ends a call with. */
export function errorFromNode(reason: unknown): ConnectError {
  if (reason instanceof ConnectError) return reason;
  const codes = codesOf(reason);
  const error = ConnectError.from(
    reason,
    codes.some(isAborted) ? Code.Aborted : codes.some(isUnavailable) ? Code.Unavailable : Code.Internal,
  );
  error.cause = reason;
  return error;
}

function isAborted(code: unknown): boolean {
  return (
    code === "ERR_STREAM_WRITE_AFTER_END" ||
    code === "ERR_STREAM_DESTROYED" ||
    code === "ERR_HTTP2_INVALID_STREAM" ||
    code === "ECONNRESET"
  );
}

function isUnavailable(code: unknown): boolean {
  return code === "ETIMEDOUT" || code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "ECONNREFUSED";
}

/** Of the error and its causes. */
function codesOf(reason: unknown): unknown[] {
  const chain = new Set<Error>();
  for (let error = reason; error instanceof Error && !chain.has(error); error = error.cause) chain.add(error);
  return [...chain].map((error) => ("code" in error ? error.code : undefined));
}
