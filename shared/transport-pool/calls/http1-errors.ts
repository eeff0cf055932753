import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

/**
 * A connection that breaks under its call is UNAVAILABLE, as over HTTP/2. Stock Connect says ABORTED or INTERNAL, which
 * speak of a conflict and of a bug, and which nobody sends again. Has to be inside of the attempt.
 */
export const http1ErrorsInterceptor: Interceptor = (next) => async (req) => {
  try {
    const res = await next(req);
    return res.stream ? { ...res, message: translated(res.message) } : res;
  } catch (error) {
    throw translate(error);
  }
};

async function* translated<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* items;
  } catch (error) {
    throw translate(error);
  }
}

function translate(error: unknown): unknown {
  if (!(error instanceof ConnectError) || !isFromSocket(error.cause)) return error;
  const message = `connection lost: ${error.rawMessage}`;
  return new ConnectError(message, Code.Unavailable, undefined, undefined, error.cause);
}

/** Node gives codes of the system (ECONNRESET), of OpenSSL and of its HTTP parser to what comes from a connection. */
function isFromSocket(cause: unknown): cause is Error {
  if (!(cause instanceof Error) || !("code" in cause) || typeof cause.code !== "string") return false;
  return "syscall" in cause || /^(ECONN|EPIPE|ERR_SSL_|HPE_|ERR_STREAM_PREMATURE_CLOSE)/.test(cause.code);
}
