import { type ClientHttp2Stream, constants } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { unsent } from "../policies/unsent.ts";

const {
  NGHTTP2_CANCEL,
  NGHTTP2_ENHANCE_YOUR_CALM,
  NGHTTP2_HTTP_1_1_REQUIRED,
  NGHTTP2_INADEQUATE_SECURITY,
  NGHTTP2_REFUSED_STREAM,
} = constants;

/** What a stream's error means to its call; undefined for what stock Connect has the right meaning of. */
export function callError(
  stream: ClientHttp2Stream,
  raw: Error,
  lost: () => ConnectError | undefined,
): ConnectError | undefined {
  return stream.rstCode === NGHTTP2_REFUSED_STREAM ? refused(raw) : (lost() ?? streamError(stream, raw));
}

/**
 * gRPC's table says INTERNAL, and that it "might be used to aggressively lameduck". That is what it means here: a Node
 * server that destroys a session resets its streams so.
 */
export function resetWithoutError(): ConnectError {
  return new ConnectError("the peer ended the stream before its answer was complete", Code.Unavailable);
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors */
export function codeOfReset(rstCode: number | undefined): Code {
  switch (rstCode) {
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

/**
 * By the peer itself, or by nghttp2 for streams above the last stream id of a GOAWAY. Either says that nothing was done
 * about the call (RFC 9113, 8.7).
 */
function refused(raw: Error): ConnectError {
  return unsent("refused", "the peer refused the stream before the call was processed", raw);
}

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
