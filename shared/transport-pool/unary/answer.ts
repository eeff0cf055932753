import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethod, DescMethodUnary } from "@bufbuild/protobuf";
import type { UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import { createMethodSerializationLookup } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { parseLater, serializeUnread } from "#shared/unread";
import type { ResponseHeaders } from "../connections/unary-stream.ts";
import type { BodyFlow } from "./body.ts";

/** Reads the answer to one call. What it throws, the call fails with. */
export interface Answer {
  onHeaders(headers: ResponseHeaders): void;
  onData(chunk: Buffer): void;
  /** All of it has come. A promise when Connect's own functions have to say what it means. */
  onEnd(trailers: IncomingHttpHeaders | undefined): UnaryResponse | Promise<UnaryResponse>;
}

export interface AnswerContext extends BodyFlow {
  /** To be told at once when the answer is bad, though not all of it has come. */
  fail(error: unknown): void;
  /** Whoever has not read what it sends does not read what it gets: the message is handed on from call to call. */
  readonly isUnread: boolean;
}

/** What one of the protocols does for one method. */
export interface UnaryMethod {
  /** Those that are the same for each call, names and values in turn, and the `user-agent` last. */
  readonly header: readonly string[];
  readonly timeout: { readonly name: string; readonly suffix: string };
  /** A header that is not sent, whoever has set it. */
  readonly omit: string | undefined;
  httpMethod(request: UnaryRequest): string;
  /** The whole body of a request. */
  serialize(message: UnaryResponse["message"]): Uint8Array;
  expect(context: AnswerContext): Answer;
}

export type CreateUnaryMethod = (method: DescMethodUnary, readMaxBytes: number) => UnaryMethod;

/** Those that stock Connect accepts, in its order. */
export const acceptCompression = [compressionGzip, compressionBrotli];

const MOST_BYTES = 2 ** 32 - 1;

export function serializationOf(method: DescMethod, readMaxBytes: number) {
  const lookup = createMethodSerializationLookup(method, undefined, undefined, {
    readMaxBytes,
    writeMaxBytes: MOST_BYTES,
  });
  const [input, output] = [lookup.getI(true), lookup.getO(true)];
  return {
    serialize: serializeUnread(input, MOST_BYTES),
    output,
    unreadOutput: { ...output, parse: parseLater(method.output, output, readMaxBytes) },
  };
}

export type Output = ReturnType<typeof serializationOf>["output"];

/** Bytes `from` … `to` of the chunks, in memory of their own: a message must not keep what else came with it. */
export function bytesOf(chunks: readonly Buffer[], from: number, to: number): Uint8Array {
  const bytes = new Uint8Array(to - from);
  let at = -from;
  for (const chunk of chunks) {
    bytes.set(at < 0 ? chunk.subarray(-at) : chunk, Math.max(at, 0));
    at += chunk.length;
  }
  return bytes;
}
