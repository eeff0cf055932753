import type { UniversalServerResponse } from "@connectrpc/connect/protocol";

/** What Connect says when it does not say what. */
const WORDLESS = "internal error";

/**
 * Connect-ES blames itself, with HTTP 500, for a unary message that does not parse. By its own protocol that is the
 * caller's fault: HTTP 400, `invalid_argument`. (gRPC's table of codes has INTERNAL for this, and it stays there.)
 *
 * @param response to a call that failed before it came to the interceptors, whose failures are all the caller's
 */
export async function blameCaller(response: UniversalServerResponse): Promise<UniversalServerResponse> {
  if (response.status !== 500 || response.body === undefined) return response;
  const chunks = await Array.fromAsync(response.body);
  const error = JSON.parse(Buffer.concat(chunks).toString()) as { code: string; message?: string };
  const { message = "" } = error;
  const answer = {
    ...error,
    code: "invalid_argument",
    message: message === WORDLESS ? "the request cannot be read" : message,
  };
  const body = Buffer.from(JSON.stringify(answer));
  const header = new Headers(response.header);
  header.set("content-length", String(body.length));
  return { status: 400, header, body: once(body) };
}

async function* once(chunk: Uint8Array): AsyncGenerator<Uint8Array> {
  yield chunk;
}
