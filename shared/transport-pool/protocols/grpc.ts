import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type UnaryResponse } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { frameMessages, PREFIX_BYTES } from "#shared/rpc";
import { LazyHeaders } from "#shared/unread";
import type { ResponseHeaders } from "../connections/exchange.ts";
import { createUnaryResponse, type ResponseMetadata } from "./call-response.ts";
import {
  acceptCompression,
  assertReadable,
  bytesOf,
  type Codec,
  codeOfHttpStatus,
  compressionOf,
  createCodec,
  decompress,
} from "./codec.ts";
import { assertGrpcOk, grpcError, hasGrpcStatus } from "./grpc-status.ts";
import { toWebHeaders, USER_AGENT } from "./node-headers.ts";
import type { AcceptedStream, RequestHeaders, UnaryReader, WireFormat } from "./wire-format.ts";

const requestHeaders: RequestHeaders = {
  header: [
    "content-type",
    "application/grpc+proto",
    "grpc-accept-encoding",
    acceptCompression.map(({ name }) => name).join(","),
    "te",
    "trailers",
    "user-agent",
    USER_AGENT,
  ],
  timeout: { name: "grpc-timeout", suffix: "m" },
  omit: undefined,
};

/** gRPC over HTTP/2. */
export const grpcFormat: WireFormat = {
  unary(method, readMaxBytes) {
    const codec = createCodec(method, readMaxBytes);
    return {
      ...requestHeaders,
      serialize: (message) => frameMessages([codec.serialize(message)]),
      read: (isUnread) => new GrpcReader(method, isUnread ? codec.parseUnread : codec.parse, readMaxBytes),
    };
  },
  stream(method, readMaxBytes) {
    const codec = createCodec(method, readMaxBytes);
    return {
      ...requestHeaders,
      serialize: (message) => frameMessages([codec.serialize(message)]),
      parse: codec.parse,
      accept: acceptStream,
    };
  },
};

/** The response of a unary call: one message, and a status in the trailers. */
class GrpcReader implements UnaryReader {
  readonly #method: DescMethod;
  readonly #parse: Codec["parse"];
  readonly #readMaxBytes: number;
  #headers: ResponseHeaders = {};
  #compression: Compression | undefined;
  readonly #chunks: Buffer[] = [];
  #total = 0;
  /** Of the prefix and the message, once the prefix is there. */
  #expected = Number.POSITIVE_INFINITY;
  #isCompressed = false;

  constructor(method: DescMethod, parse: Codec["parse"], readMaxBytes: number) {
    this.#method = method;
    this.#parse = parse;
    this.#readMaxBytes = readMaxBytes;
  }

  onHeaders(headers: ResponseHeaders): void {
    this.#headers = headers;
    this.#compression = acceptHead(headers);
  }

  onData(chunk: Buffer): void {
    const chunks = this.#chunks;
    chunks.push(chunk);
    this.#total += chunk.length;
    if (this.#expected === Number.POSITIVE_INFINITY) {
      if (this.#total < PREFIX_BYTES) return;
      const prefix = chunks.length === 1 ? chunk : Buffer.concat(chunks);
      const length = prefix.readUInt32BE(1);
      assertReadable(length, this.#readMaxBytes, true);
      this.#isCompressed = ((prefix[0] ?? 0) & COMPRESSED) !== 0;
      this.#expected = PREFIX_BYTES + length;
    }
    if (this.#total <= this.#expected) return;
    throw new ConnectError("protocol error: received extra output message for unary method", Code.Unimplemented);
  }

  onEnd(trailers: IncomingHttpHeaders | undefined): UnaryResponse | Promise<UnaryResponse> {
    const headers = this.#headers;
    const metadata = new GrpcMetadata(headers, trailers);
    assertGrpcOk(trailers, headers, () => metadata.all());
    const headerError = grpcError(headers, () => metadata.all());
    if (this.#total === 0) throw headerError ?? missingMessage(trailers);
    if (headerError !== undefined) {
      throw new ConnectError(
        "protocol error: received output message for unary method with error status",
        Code.Unknown,
      );
    }
    if (this.#total !== this.#expected) throw incompleteFrame();
    const bytes = bytesOf(this.#chunks, PREFIX_BYTES, this.#total);
    if (!this.#isCompressed) return createUnaryResponse(this.#method, this.#parse(bytes), metadata);
    return decompress(bytes, this.#compression, this.#readMaxBytes).then((plain) =>
      createUnaryResponse(this.#method, this.#parse(plain), metadata),
    );
  }
}

/** Bit of a frame's flags. */
export const COMPRESSED = 1;

export function incompleteFrame(): ConnectError {
  return new ConnectError("protocol error: incomplete envelope", Code.InvalidArgument);
}

function missingMessage(trailers: IncomingHttpHeaders | undefined): ConnectError {
  return new ConnectError(
    "protocol error: missing output message for unary method",
    hasGrpcStatus(trailers) ? Code.Unimplemented : Code.Unknown,
  );
}

const CONTENT_TYPE = /^application\/grpc(?:\+(?:json(?:; ?charset=utf-?8)?|proto))?$/i;

/** @returns what compressed messages are compressed with. @throws ConnectError when it is no response of gRPC */
function acceptHead(headers: ResponseHeaders): Compression | undefined {
  const status = headers[":status"] ?? 0;
  if (status !== 200) {
    throw new ConnectError(`HTTP ${status}`, codeOfHttpStatus(status), toWebHeaders(headers));
  }
  const type = headers["content-type"];
  if (type === undefined || !CONTENT_TYPE.test(type)) {
    throw new ConnectError(`unsupported content type ${type ?? null}`, Code.Unknown);
  }
  return compressionOf(headers["grpc-encoding"] as string | undefined, () => toWebHeaders(headers));
}

function acceptStream(headers: ResponseHeaders): AcceptedStream {
  const compression = acceptHead(headers);
  const header = toWebHeaders(headers);
  const headerError = grpcError(headers, () => header);
  if (headerError !== undefined) throw headerError;
  const trailer = new Headers();
  return {
    header,
    trailer,
    compression,
    endFlag: 0,
    onEndFrame() {
      throw new TypeError("gRPC has no end frame");
    },
    onEnd(trailers) {
      for (const [name, value] of toWebHeaders(trailers)) trailer.set(name, value);
      if (!hasGrpcStatus(headers)) assertGrpcOk(trailers, headers, () => appended(trailer, header));
    },
  };
}

/** Headers and trailers of a response, created when they are read. */
class GrpcMetadata implements ResponseMetadata {
  readonly #headers: IncomingHttpHeaders;
  readonly #trailers: IncomingHttpHeaders | undefined;
  #header: Headers | undefined;
  #trailer: Headers | undefined;

  constructor(headers: IncomingHttpHeaders, trailers: IncomingHttpHeaders | undefined) {
    this.#headers = headers;
    this.#trailers = trailers;
  }

  get header(): Headers {
    this.#header ??= new LazyHeaders(this.#headers);
    return this.#header;
  }

  get trailer(): Headers {
    this.#trailer ??= new LazyHeaders(this.#trailers ?? {});
    return this.#trailer;
  }

  all(): Headers {
    return appended(this.trailer, this.header);
  }
}

function appended(one: Headers, other: Headers): Headers {
  const both = new Headers(one);
  for (const [name, value] of other) both.append(name, value);
  return both;
}
