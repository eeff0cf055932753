import { constants } from "node:http2";
import { Code } from "@connectrpc/connect";

/**
 * Status code of a call whose stream was reset with an HTTP/2 error code, by gRPC's table. One difference: NO_ERROR is
 * UNAVAILABLE, where the table has INTERNAL and says that it "might be used to aggressively lameduck".
 *
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors
 */
export function codeOfReset(http2Code: number | undefined): Code {
  switch (http2Code) {
    case constants.NGHTTP2_NO_ERROR:
    case constants.NGHTTP2_REFUSED_STREAM:
      return Code.Unavailable;
    case constants.NGHTTP2_CANCEL:
      return Code.Canceled;
    case constants.NGHTTP2_ENHANCE_YOUR_CALM:
      return Code.ResourceExhausted;
    case constants.NGHTTP2_INADEQUATE_SECURITY:
    case constants.NGHTTP2_HTTP_1_1_REQUIRED:
      return Code.PermissionDenied;
    default:
      return Code.Internal;
  }
}

/** By number (RFC 9113, 7). */
const NAMES = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
];

/** Name of an HTTP/2 error code, for messages. */
export function nameOfHttp2Code(code: number | undefined): string {
  return (code === undefined ? undefined : NAMES[code]) ?? `code ${code}`;
}
