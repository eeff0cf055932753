import { type ClientHttp2Stream, constants } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import type { RunningCall } from "#shared/lifecycle";
import { callError, resetWithoutError } from "./stream-errors.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_STREAM_STATE_IDLE } = constants;

export interface SupervisedStream extends RunningCall<SupervisedStream> {
  /** Ends the call that the stream carries. */
  fail(error: ConnectError): void;
  /** Whether none of it is on the wire yet. */
  isUnsent(): boolean;
}

export interface SuperviseStreamOptions {
  /** Fires when the call has ended, well or not. */
  readonly signal: AbortSignal | undefined;
  /** Why the connection is gone, when it is. */
  readonly lost: () => ConnectError | undefined;
}

/**
 * Makes sure that the call on a stream settles, whatever becomes of the stream, with the code that gRPC gives to it,
 * and that the stream ends with its call. Stock Connect listens for "error", and gives a reset without one its own
 * meaning; that leaves gaps:
 * - a stream that closes without an answer and without an error never settles its call;
 * - a lost connection comes as a reset with CANCEL, and would look as if the caller had left;
 * - an error in the moment before Connect's listeners are there ends the process, or is not seen;
 * - an answer that was received whole but not read to its end (too large, malformed) keeps its stream, and by that the
 *   connection, for ever.
 *
 * So it has to be called at once when the stream is made: its listeners must come before Connect's.
 */
export function superviseStream(stream: ClientHttp2Stream, options: SuperviseStreamOptions): SupervisedStream {
  const { signal, lost } = options;
  let failure: ConnectError | undefined;

  function fail(error: ConnectError): void {
    if (failure !== undefined) return;
    failure = error;
    // Connect takes the first error that it sees, and knows one of its own.
    stream.emit("error", error);
    // Its listeners come a microtask after the stream.
    setImmediate(() => stream.emit("error", error));
  }

  stream.on("error", (raw: Error) => {
    if (raw === failure) return;
    const error = callError(stream, raw, lost);
    if (error !== undefined) fail(error);
  });

  // The readable side ends in either case: on END_STREAM before the stream is closed, and on a reset, even one with
  // NO_ERROR, after. Nothing else tells a whole answer from one that was cut off.
  let isComplete = false;
  const push = stream.push.bind(stream);
  // A const first, here and below: V8 makes a function that is written straight into a property live until a full
  // collection, with all that it refers to.
  const pushWatched: typeof push = (chunk, encoding) => {
    if (chunk === null && !stream.closed) isComplete = true;
    return push(chunk, encoding);
  };
  stream.push = pushWatched;

  // Comes before the reader sees the end, which it would take for a protocol error of the peer.
  stream.once("close", () => {
    signal?.removeEventListener("abort", end);
    if (isComplete && stream.readableEnded) return;
    const error = lost() ?? (stream.rstCode === NGHTTP2_NO_ERROR ? resetWithoutError() : undefined);
    if (error !== undefined) fail(error);
  });

  // However a call ends on this side, its peer should see that it was cancelled; Connect says INTERNAL_ERROR for
  // everything that is not a cancellation by the user, deadlines among it.
  const close = stream.close.bind(stream);
  const closeCancelled: typeof close = (code, callback) =>
    close(code === NGHTTP2_INTERNAL_ERROR ? NGHTTP2_CANCEL : code, callback);
  stream.close = closeCancelled;

  // Connect's own end of the stream comes first, with its code, and then leaves nothing to do here.
  const end = () => {
    if (stream.destroyed) return;
    setImmediate(() => {
      if (!stream.closed) close(NGHTTP2_CANCEL);
      stream.destroy();
    });
  };
  signal?.addEventListener("abort", end, { once: true });

  const isUnsent = () => stream.state?.state === NGHTTP2_STREAM_STATE_IDLE;
  return { previous: undefined, next: undefined, fail, isUnsent };
}
