import { type ClientHttp2Stream, constants } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";

const {
  NGHTTP2_NO_ERROR,
  NGHTTP2_CANCEL,
  NGHTTP2_ENHANCE_YOUR_CALM,
  NGHTTP2_HTTP_1_1_REQUIRED,
  NGHTTP2_INADEQUATE_SECURITY,
  NGHTTP2_INTERNAL_ERROR,
  NGHTTP2_REFUSED_STREAM,
} = constants;

/** Ends the call that a stream carries. */
export interface SupervisedStream {
  fail(error: ConnectError): void;
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
    const error = lost() ?? streamError(stream, raw);
    if (error !== undefined) fail(error);
  });

  stream.once("close", () => {
    signal?.removeEventListener("abort", end);
    if (stream.readableEnded) return;
    const error = lost();
    if (error !== undefined) fail(error);
    else if (stream.rstCode === NGHTTP2_NO_ERROR) {
      fail(new ConnectError("the peer ended the stream without an answer", Code.Internal));
    }
  });

  // However a call ends on this side, its peer should see that it was cancelled; Connect says INTERNAL_ERROR for
  // everything that is not a cancellation by the user, deadlines among it.
  const close = stream.close.bind(stream);
  stream.close = (code, callback) => close(code === NGHTTP2_INTERNAL_ERROR ? NGHTTP2_CANCEL : code, callback);

  // Connect's own end of the stream comes first, with its code, and then leaves nothing to do here.
  const end = () => {
    if (stream.destroyed) return;
    setImmediate(() => {
      if (!stream.closed) close(NGHTTP2_CANCEL);
      stream.destroy();
    });
  };
  signal?.addEventListener("abort", end, { once: true });

  return { fail };
}

/** Undefined for what stock Connect has the right meaning of. */
function streamError(stream: ClientHttp2Stream, raw: Error): ConnectError | undefined {
  if (raw instanceof ConnectError || !("code" in raw)) return undefined;
  switch (raw.code) {
    case "ERR_HTTP2_STREAM_ERROR":
      return new ConnectError(raw.message, codeOfReset(stream.rstCode), undefined, undefined, raw);
    case "ERR_HTTP2_GOAWAY_SESSION":
    case "ERR_HTTP2_INVALID_SESSION":
    case "ERR_HTTP2_SESSION_ERROR":
    case "ERR_HTTP2_STREAM_CANCEL":
      return new ConnectError(raw.message, Code.Unavailable, undefined, undefined, raw);
    default:
      return undefined;
  }
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors */
function codeOfReset(rstCode: number | undefined): Code {
  switch (rstCode) {
    case NGHTTP2_REFUSED_STREAM:
      return Code.Unavailable;
    case NGHTTP2_CANCEL:
      return Code.Canceled;
    case NGHTTP2_ENHANCE_YOUR_CALM:
      return Code.ResourceExhausted;
    case NGHTTP2_INADEQUATE_SECURITY:
    case NGHTTP2_HTTP_1_1_REQUIRED:
      return Code.PermissionDenied;
    default:
      return Code.Internal;
  }
}
