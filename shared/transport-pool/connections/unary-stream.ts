import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from "node:http2";
import { ConnectError } from "@connectrpc/connect";
import { errorFromNode } from "./node-errors.ts";
import { callError, codeOfReset, resetWithoutError } from "./stream-errors.ts";
import type { SupervisedStream } from "./supervise-stream.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_STREAM_STATE_IDLE } = constants;

export type ResponseHeaders = IncomingHttpHeaders & IncomingHttpStatusHeader;

/** A unary request, and whoever takes the answer. */
export interface UnaryExchange {
  readonly method: string;
  readonly path: string;
  /** Names and values in turn. */
  readonly headers: readonly string[];
  readonly body: Uint8Array;
  /** What these four throw, the call fails with. */
  onHeaders(headers: ResponseHeaders): void;
  onData(chunk: Buffer): void;
  onTrailers(trailers: IncomingHttpHeaders): void;
  /** The answer is whole. */
  onEnd(): void;
  /** It never will be. Nothing follows, and nothing has to be cleaned up. */
  onError(reason: unknown): void;
}

/** A unary call that has been sent. */
export interface SentUnary {
  /** The call has ended on this side: its peer is told, whatever the reason, that it was cancelled. */
  cancel(): void;
  /** No further data until `resume`. */
  pause(): void;
  resume(): void;
}

/** The stream that carries a unary call. */
export interface UnaryStream extends SupervisedStream, SentUnary {}

export interface UnaryStreamOptions {
  /** Why the connection is gone, when it is. */
  readonly lost: () => ConnectError | undefined;
  readonly onClose: (stream: UnaryStream) => void;
}

/**
 * Sends the request and collects the answer, with the guarantees of `superviseStream`: the exchange always ends, once,
 * with the code that gRPC gives to whatever becomes of the stream, and the stream ends with it. Has to be called at once
 * when the stream is made.
 */
export function sendUnary(
  stream: ClientHttp2Stream,
  exchange: UnaryExchange,
  { lost, onClose }: UnaryStreamOptions,
): UnaryStream {
  // Undefined when it is over: V8 keeps streams through several collections, and must not keep all of the call as well.
  let open: UnaryExchange | undefined = exchange;
  let isComplete = false;

  function fail(reason: unknown): void {
    const failed = open;
    if (failed === undefined) return;
    open = undefined;
    failed.onError(reason);
    cancel();
  }

  function cancel(): void {
    open = undefined;
    if (stream.destroyed) return;
    if (!stream.closed) stream.close(NGHTTP2_CANCEL);
    // What was received and is not read would keep the stream, and by that the connection.
    setImmediate(destroy);
  }

  function destroy(): void {
    stream.destroy();
  }

  stream.on("error", (raw: Error) => {
    if (open !== undefined) fail(callError(stream, raw, lost) ?? errorFromNode(raw));
  });
  stream.on("response", (headers) => {
    try {
      open?.onHeaders(headers);
    } catch (error) {
      fail(error);
    }
  });
  stream.on("data", (chunk: Buffer) => {
    try {
      open?.onData(chunk);
    } catch (error) {
      fail(error);
    }
  });
  stream.on("trailers", (trailers: IncomingHttpHeaders) => open?.onTrailers(trailers));
  // The readable side ends in either case: on END_STREAM before the stream is closed, and on a reset, even one with
  // NO_ERROR, after. Nothing else tells a whole answer from one that was cut off.
  const { push } = stream;
  stream.push = (chunk, encoding) => {
    if (chunk === null && !stream.closed) isComplete = true;
    return push.call(stream, chunk, encoding);
  };
  stream.on("end", () => {
    const ended = open;
    if (ended === undefined || !isComplete) return;
    open = undefined;
    try {
      ended.onEnd();
    } catch (error) {
      ended.onError(error);
    }
    // Answered before the peer had the whole request. (Node says "end" before it knows that the stream is closed.)
    if (!stream.writableFinished) cancel();
  });
  stream.on("close", () => {
    if (open !== undefined) fail(lost() ?? closedError(stream.rstCode));
    onClose(supervised);
  });

  const supervised: UnaryStream = {
    fail,
    cancel,
    isUnsent: () => stream.state?.state === NGHTTP2_STREAM_STATE_IDLE,
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
  };
  stream.end(exchange.body);
  return supervised;
}

/** In the words of stock Connect: Node has no error for a stream that was reset with CANCEL. */
function closedError(rstCode: number | undefined): ConnectError {
  if (rstCode === NGHTTP2_NO_ERROR) return resetWithoutError();
  const name = rstCode === NGHTTP2_CANCEL ? "CANCEL" : "code";
  return new ConnectError(
    `http/2 stream closed with error code ${name} (0x${(rstCode ?? 0).toString(16)})`,
    codeOfReset(rstCode),
  );
}
