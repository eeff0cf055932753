import {
  type DescMessage,
  fromBinary,
  fromJsonString,
  type JsonReadOptions,
  type JsonWriteOptions,
  type Message,
  toBinary,
  toJsonString,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { tooLarge } from "#shared/rpc";

/** Reads and writes messages of one type in one format. */
export interface Codec {
  /** @throws ConnectError */
  parse(bytes: Uint8Array<ArrayBuffer>): Message;
  /** @throws ConnectError */
  serialize(message: Message): Uint8Array<ArrayBuffer>;
}

export type JsonOptions = Partial<JsonReadOptions & JsonWriteOptions>;

export interface CodecOptions {
  readonly readMaxBytes: number;
  readonly writeMaxBytes: number;
  readonly jsonOptions: JsonOptions;
}

/** Fails as Connect's own does: unreadable protobuf is INTERNAL (gRPC's table of codes). */
export function binaryCodec(desc: DescMessage, { readMaxBytes, writeMaxBytes }: CodecOptions): Codec {
  return {
    parse(bytes) {
      if (bytes.length > readMaxBytes) throw tooLarge(bytes.length, readMaxBytes);
      try {
        return fromBinary(desc, bytes);
      } catch (error) {
        throw new ConnectError(`parse binary: ${messageOf(error)}`, Code.Internal);
      }
    },
    serialize(message) {
      let bytes: Uint8Array<ArrayBuffer>;
      try {
        bytes = toBinary(desc, message);
      } catch (error) {
        throw new ConnectError(`serialize binary: ${messageOf(error)}`, Code.Internal);
      }
      return withinLimit(bytes, writeMaxBytes);
    },
  };
}

// Invalid UTF-8 is refused, as it is in protobuf.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
const encoder = new TextEncoder();

/** Unknown fields are ignored, as Connect does. */
export function jsonCodec(desc: DescMessage, { readMaxBytes, writeMaxBytes, jsonOptions }: CodecOptions): Codec {
  const options = { ignoreUnknownFields: true, ...jsonOptions };
  return {
    parse(bytes) {
      if (bytes.length > readMaxBytes) throw tooLarge(bytes.length, readMaxBytes);
      try {
        return fromJsonString(desc, decoder.decode(bytes), options);
      } catch (error) {
        throw ConnectError.from(error, Code.InvalidArgument);
      }
    },
    serialize(message) {
      let bytes: Uint8Array<ArrayBuffer>;
      try {
        bytes = encoder.encode(toJsonString(desc, message, options));
      } catch (error) {
        throw ConnectError.from(error, Code.Internal);
      }
      return withinLimit(bytes, writeMaxBytes);
    },
  };
}

function withinLimit(bytes: Uint8Array<ArrayBuffer>, maxBytes: number): Uint8Array<ArrayBuffer> {
  if (bytes.length <= maxBytes) return bytes;
  throw new ConnectError(
    `message size ${bytes.length} is larger than configured writeMaxBytes ${maxBytes}`,
    Code.ResourceExhausted,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
