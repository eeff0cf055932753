import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

/** Cause of a failure by which the peer has not seen the call, or says that it did nothing about it. */
export class UnprocessedError extends Error {
  override readonly name = "UnprocessedError";
}

export function unprocessed(reason: string, cause?: Error): ConnectError {
  const error = new UnprocessedError(reason, { cause });
  return new ConnectError(`${reason} before the call was processed`, Code.Unavailable, undefined, undefined, error);
}

/** Each needs a connection that was set up and then refused the call: more than this is no coincidence. */
const MAX_SENDS = 5;

/**
 * Sends a call again that its connection took and that was then overtaken by the connection's end: a GOAWAY came before
 * it could go out, or one whose last stream id says that it was not looked at. Always safe, whatever the call does
 * (RFC 9113, 6.8; gRFC A6, "transparent retries").
 */
export const resendInterceptor: Interceptor = (next) => async (req) => {
  const replay = req.stream ? createReplay(req.message) : undefined;
  for (let sends = 1; ; sends++) {
    const attempt = replay?.begin();
    try {
      return await next(req.stream && attempt !== undefined ? { ...req, message: attempt.messages } : req);
    } catch (error) {
      const isUnprocessed = error instanceof ConnectError && error.cause instanceof UnprocessedError;
      if (!isUnprocessed || sends === MAX_SENDS || req.signal.aborted || replay?.isPossible() === false) throw error;
      attempt?.abandon();
    }
  }
};

/** How many asks for the next message are kept: one message and the end, or two messages. */
const KEPT = 2;

/** The messages of a stream, for one attempt after the other, as long as no attempt has taken too many. */
function createReplay<T>(source: AsyncIterable<T>) {
  const inner = source[Symbol.asyncIterator]();
  // The promises, not the messages: an attempt may be abandoned while it still waits.
  const kept: Promise<IteratorResult<T>>[] = [];
  let isPossible = true;

  function begin() {
    let asked = 0;
    let isAbandoned = false;
    const iterator: AsyncIterator<T> = {
      next() {
        const index = asked++;
        const before = kept[index];
        if (before !== undefined) return before;
        const result = inner.next();
        if (index < KEPT) kept.push(result);
        else isPossible = false;
        return result;
      },
      // How Connect tells the source that nobody takes its messages any more; but the next attempt does.
      throw: (error) => (isAbandoned || inner.throw === undefined ? Promise.reject(error) : inner.throw(error)),
    };
    return {
      messages: { [Symbol.asyncIterator]: () => iterator },
      abandon: () => {
        isAbandoned = true;
      },
    };
  }

  return { begin, isPossible: () => isPossible };
}
