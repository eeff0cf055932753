import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { UnaryResponse } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { ResponseHeaders } from "../connections/exchange.ts";

/** One protocol's headers for the requests of one method. */
export interface RequestHeaders {
  /** The same for each request; names in lower case and values, alternating; `user-agent` last, which a caller may replace. */
  readonly header: readonly string[];
  readonly timeout: { readonly name: string; readonly suffix: string };
  /** A header that is never sent. */
  readonly omit: string | undefined;
}

/** How one protocol sends the unary calls of one method and reads their responses. */
export interface UnaryFormat extends RequestHeaders {
  /** The whole body of a request. */
  serialize(message: Message): Uint8Array;
  /** @param isUnread the message is passed on as it is */
  read(isUnread: boolean): UnaryReader;
}

/** Reads the response of one unary call. What its functions throw, the call fails with. */
export interface UnaryReader {
  onHeaders(headers: ResponseHeaders): void;
  onData(chunk: Buffer): void;
  /** The response is complete. A promise when its message has to be decompressed. */
  onEnd(trailers: IncomingHttpHeaders | undefined): UnaryResponse | Promise<UnaryResponse>;
}

/** How one protocol sends the streams of one method and reads their responses. */
export interface StreamFormat extends RequestHeaders {
  /** A message in its frame. */
  serialize(message: Message): Uint8Array;
  parse(bytes: Uint8Array): Message;
  /** @throws ConnectError when the head says that the call has failed */
  accept(headers: ResponseHeaders): AcceptedStream;
}

/** A response stream whose head is good. */
export interface AcceptedStream {
  readonly header: Headers;
  /** Empty until the end. */
  readonly trailer: Headers;
  readonly compression: Compression | undefined;
  /** Bit of a frame's flags that makes it the last one and no message; 0 when there is none. */
  readonly endFlag: number;
  /** Reads the last frame. @throws ConnectError when it says that the call has failed */
  onEndFrame(bytes: Uint8Array): void;
  /** The body is complete. @throws ConnectError when the trailers say that the call has failed, or say nothing */
  onEnd(trailers: IncomingHttpHeaders | undefined): void;
}

/** The fast path of one protocol. */
export interface WireFormat {
  unary(method: DescMethod, readMaxBytes: number): UnaryFormat;
  stream(method: DescMethod, readMaxBytes: number): StreamFormat;
}
