import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type UnaryResponse } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { frameMessages } from "#shared/rpc";
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
import { connectErrorOf, parseJson } from "./connect-error.ts";
import { toWebHeaders, USER_AGENT } from "./node-headers.ts";
import type { AcceptedStream, RequestHeaders, UnaryReader, WireFormat } from "./wire-format.ts";

const accepted = acceptCompression.map(({ name }) => name).join(",");
const common = ["connect-protocol-version", "1", "user-agent", USER_AGENT];
const timeout = { name: "connect-timeout-ms", suffix: "" };

const unaryHeaders: RequestHeaders = {
  header: ["accept-encoding", accepted, "content-type", "application/proto", ...common],
  timeout,
  // Nothing is compressed, whatever an interceptor says.
  omit: "content-encoding",
};
const streamHeaders: RequestHeaders = {
  header: ["connect-accept-encoding", accepted, "content-type", "application/connect+proto", ...common],
  timeout,
  omit: "connect-content-encoding",
};

/** The Connect protocol, over either HTTP version. */
export const connectFormat: WireFormat = {
  unary(method, readMaxBytes) {
    const codec = createCodec(method, readMaxBytes);
    return {
      ...unaryHeaders,
      serialize: codec.serialize,
      read: (isUnread) => new ConnectReader(method, isUnread ? codec.parseUnread : codec.parse, readMaxBytes),
    };
  },
  stream(method, readMaxBytes) {
    const codec = createCodec(method, readMaxBytes);
    return {
      ...streamHeaders,
      serialize: (message) => frameMessages([codec.serialize(message)]),
      parse: codec.parse,
      accept: acceptStream,
    };
  },
};

/** The response of a unary call: the message, or an error in JSON. */
class ConnectReader implements UnaryReader {
  readonly #method: DescMethod;
  readonly #parse: Codec["parse"];
  readonly #readMaxBytes: number;
  #headers: ResponseHeaders = {};
  #compression: Compression | undefined;
  #isError = false;
  readonly #chunks: Buffer[] = [];
  #total = 0;
  #length: number | undefined;

  constructor(method: DescMethod, parse: Codec["parse"], readMaxBytes: number) {
    this.#method = method;
    this.#parse = parse;
    this.#readMaxBytes = readMaxBytes;
  }

  onHeaders(headers: ResponseHeaders): void {
    this.#headers = headers;
    this.#compression = compressionOf(headers["content-encoding"], () => toWebHeaders(headers));
    const type = typeOf(headers);
    if (headers[":status"] !== 200) {
      if (type?.isJson !== true) throw httpError(headers);
      this.#isError = true;
    } else if (type === undefined || type.isJson || type.isStream) throw unsupportedType(headers);
    this.#length = lengthOf(headers);
    if (this.#length !== undefined) assertReadable(this.#length, this.#readMaxBytes, true);
  }

  onData(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#total += chunk.length;
    if (this.#length === undefined) assertReadable(this.#total, this.#readMaxBytes, false);
    else if (this.#total > this.#length) throw wrongLength(this.#length, this.#total);
  }

  onEnd(): UnaryResponse | Promise<UnaryResponse> {
    if (this.#length !== undefined && this.#total < this.#length) throw wrongLength(this.#length, this.#total);
    const bytes = bytesOf(this.#chunks, 0, this.#total);
    if (this.#compression === undefined) return this.#read(bytes);
    return decompress(bytes, this.#compression, this.#readMaxBytes).then((plain) => this.#read(plain));
  }

  #read(bytes: Uint8Array): UnaryResponse {
    const metadata = new ConnectMetadata(this.#headers);
    if (!this.#isError) return createUnaryResponse(this.#method, this.#parse(bytes), metadata);
    const { code, rawMessage: message } = httpError(this.#headers);
    throw connectErrorOf(parseJson(bytes), metadata.all(), { code, message });
  }
}

function acceptStream(headers: ResponseHeaders): AcceptedStream {
  const compression = compressionOf(headers["connect-content-encoding"] as string | undefined, () =>
    toWebHeaders(headers),
  );
  const type = typeOf(headers);
  if (headers[":status"] !== 200) throw httpError(headers);
  if (type === undefined || type.isJson || !type.isStream) throw unsupportedType(headers);
  const header = toWebHeaders(headers);
  const trailer = new Headers();
  let hasEnded = false;
  return {
    header,
    trailer,
    compression,
    endFlag: END_STREAM,
    onEndFrame(bytes) {
      hasEnded = true;
      const { error, metadata } = readEndStream(bytes);
      if (error !== undefined) {
        for (const [name, value] of header) metadata.append(name, value);
        throw connectErrorOf(error, metadata, { code: Code.Unknown, message: "invalid end stream" });
      }
      for (const [name, value] of metadata) trailer.set(name, value);
    },
    onEnd() {
      if (hasEnded) return;
      throw new ConnectError("protocol error: missing EndStreamResponse", Code.InvalidArgument);
    },
  };
}

/** Bit of a frame's flags. */
const END_STREAM = 2;

/** @throws ConnectError when it cannot be read at all */
function readEndStream(bytes: Uint8Array): { readonly error: unknown; readonly metadata: Headers } {
  const json = parseJson(bytes);
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new ConnectError("failed to parse EndStreamResponse: invalid end stream", Code.InvalidArgument);
  }
  const { error, metadata: fields = {} } = json as { error?: unknown; metadata?: unknown };
  const metadata = new Headers();
  for (const [name, values] of Object.entries(fields ?? {})) {
    for (const value of Array.isArray(values) ? values : []) appendReadable(metadata, name, value);
  }
  return { error: error ?? undefined, metadata };
}

/** Drops what is no header field. */
function appendReadable(headers: Headers, name: string, value: unknown): void {
  try {
    if (typeof value === "string") headers.append(name, value);
  } catch {
    // A name or a value that no header can have.
  }
}

const CONTENT_TYPE = /^application\/(connect\+)?(?:(json)(?:; ?charset=utf-?8)?|proto)$/i;

function typeOf(headers: ResponseHeaders): { readonly isStream: boolean; readonly isJson: boolean } | undefined {
  const type = headers["content-type"];
  if (type === "application/proto") return UNARY_PROTO;
  const match = type === undefined ? null : CONTENT_TYPE.exec(type);
  return match === null ? undefined : { isStream: match[1] !== undefined, isJson: match[2] !== undefined };
}

const UNARY_PROTO = { isStream: false, isJson: false };

function httpError(headers: ResponseHeaders): ConnectError {
  const status = headers[":status"] ?? 0;
  return new ConnectError(`HTTP ${status}`, codeOfHttpStatus(status), toWebHeaders(headers));
}

function unsupportedType(headers: ResponseHeaders): ConnectError {
  return new ConnectError(
    `unsupported content type ${headers["content-type"] ?? null}`,
    typeOf(headers) === undefined ? Code.Unknown : Code.Internal,
    toWebHeaders(headers),
  );
}

function wrongLength(length: number, total: number): ConnectError {
  return new ConnectError(`protocol error: promised ${length} bytes, received ${total}`, Code.InvalidArgument);
}

function lengthOf(headers: IncomingHttpHeaders): number | undefined {
  const text = headers["content-length"];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** In unary calls, trailers come as headers whose names begin with `trailer-`. */
class ConnectMetadata implements ResponseMetadata {
  readonly #headers: IncomingHttpHeaders;
  #both: readonly [header: Headers, trailer: Headers] | undefined;

  constructor(headers: IncomingHttpHeaders) {
    this.#headers = headers;
  }

  get header(): Headers {
    return this.#split()[0];
  }

  get trailer(): Headers {
    return this.#split()[1];
  }

  all(): Headers {
    const all = new Headers(this.header);
    for (const [name, value] of this.trailer) all.append(name, value);
    return all;
  }

  #split(): readonly [header: Headers, trailer: Headers] {
    if (this.#both !== undefined) return this.#both;
    const header = new Headers();
    const trailer = new Headers();
    for (const [name, value] of toWebHeaders(this.#headers)) {
      if (name.startsWith(TRAILER_PREFIX) && name !== TRAILER_PREFIX)
        trailer.append(name.slice(TRAILER_PREFIX.length), value);
      else header.append(name, value);
    }
    this.#both = [header, trailer];
    return this.#both;
  }
}

const TRAILER_PREFIX = "trailer-";
