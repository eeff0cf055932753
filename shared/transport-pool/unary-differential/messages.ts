import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { GetBookResponseSchema } from "#gen/book/v1/book_pb.ts";
import type { Fields, Step } from "./scripted-server.ts";

export const book = toBinary(
  GetBookResponseSchema,
  create(GetBookResponseSchema, { book: { id: "b1", title: "Emma" } }),
);
export const largeBook = toBinary(
  GetBookResponseSchema,
  create(GetBookResponseSchema, { book: { title: "x".repeat(900) } }),
);
/** Compresses to little, and is more than may be read. */
export const hugeBook = toBinary(
  GetBookResponseSchema,
  create(GetBookResponseSchema, { book: { title: "x".repeat(5_000) } }),
);
/** A string field that is no UTF-8. */
export const badUtf8 = Uint8Array.from([10, 4, 10, 2, 0xc3, 0x28]);
export const noMessage = Uint8Array.from([0xff, 0xff, 0xff]);

export const gzip = (bytes: Uint8Array): Uint8Array => gzipSync(bytes);
export const br = (bytes: Uint8Array): Uint8Array => brotliCompressSync(bytes);

export function envelope(bytes: Uint8Array, flags = 0, length = bytes.length): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, bytes]);
}

export function headers(status: number, type: string | undefined, ...more: Fields): Fields {
  return [[":status", String(status)], ...(type === undefined ? [] : [["content-type", type] as const]), ...more];
}

export const grpcHeaders = (...more: Fields) => headers(200, "application/grpc+proto", ...more);

/** An answer of gRPC that is good but for what is given. */
export function grpcAnswer(data: Uint8Array, trailers: Fields = [["grpc-status", "0"]], more: Fields = []): Step[] {
  return [{ headers: grpcHeaders(...more) }, { data }, { headers: trailers, isEnd: true }];
}

export function connectAnswer(status: number, type: string | undefined, data: Uint8Array, ...more: Fields): Step[] {
  return [{ headers: headers(status, type, ...more) }, { data, isEnd: true }];
}

/** `grpc-status-details-bin` with one detail. */
export function detailsBin(code: Code): string {
  const detail = { desc: StringValueSchema, value: { value: "why" } };
  const error = new ConnectError("of the details", code, undefined, [detail]);
  return setTrailerStatus(new Headers(), error).get("grpc-status-details-bin") ?? "";
}

export const packed = anyPack(StringValueSchema, create(StringValueSchema, { value: "why" }));
