import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { Code, ConnectError, type UnaryResponse } from "@connectrpc/connect";
import { headerGrpcStatus, validateResponseWithCompression, validateTrailer } from "@connectrpc/connect/protocol-grpc";
import { PREFIX_BYTES } from "#shared/rpc";
import { LazyHeaders } from "#shared/unread";
import type { ResponseHeaders } from "../connections/unary-stream.ts";
import { type Answer, type AnswerContext, acceptCompression, bytesOf, type Output } from "./answer.ts";
import { type Body, createBody } from "./body.ts";
import { type AnswerHeaders, createCallResponse } from "./call-response.ts";
import { readMessage } from "./grpc-message.ts";
import { toWebHeaders } from "./node-headers.ts";

type Message = UnaryResponse["message"];
type Validated = ReturnType<typeof validateResponseWithCompression>;

/**
 * Connect's servers name one for each call that accepts it, and do not compress small messages: each message's own flag
 * says whether it is compressed.
 */
const ENCODINGS: ReadonlySet<unknown> = new Set([undefined, "identity", ...acceptCompression.map(({ name }) => name)]);

export interface GrpcAnswerOptions {
  readonly method: DescMethodUnary;
  readonly output: Output;
  readonly readMaxBytes: number;
}

/**
 * Reads the plain good answer itself: one message that is not compressed, whatever the headers say of others, and
 * `grpc-status: 0` in the trailers. Whatever else comes is given to Connect's own functions from its first byte on.
 */
export class GrpcAnswer implements Answer {
  readonly #options: GrpcAnswerOptions;
  readonly #context: AnswerContext;
  #headers: ResponseHeaders | undefined;
  #validated: Validated | undefined;
  readonly #chunks: Buffer[] = [];
  #total = 0;
  /** Of the prefix and the first message, when the prefix is there. */
  #expected = Number.POSITIVE_INFINITY;
  #message: Message | undefined;
  #odd: OddBody | undefined;

  constructor(options: GrpcAnswerOptions, context: AnswerContext) {
    this.#options = options;
    this.#context = context;
  }

  onHeaders(headers: ResponseHeaders): void {
    this.#headers = headers;
    if (!isPlainHeader(headers)) this.#validated = validate(headers);
  }

  onData(chunk: Buffer): void {
    if (this.#odd !== undefined) {
      this.#odd.body.push(chunk);
      return;
    }
    const chunks = this.#chunks;
    chunks.push(chunk);
    this.#total += chunk.length;
    if (this.#expected === Number.POSITIVE_INFINITY) {
      if (this.#total < PREFIX_BYTES) return;
      const prefix = chunks.length === 1 ? chunk : Buffer.concat(chunks);
      const length = prefix.readUInt32BE(1);
      if (prefix[0] !== 0 || length > this.#options.readMaxBytes) {
        this.#beOdd();
        return;
      }
      this.#expected = PREFIX_BYTES + length;
    }
    if (this.#total > this.#expected) this.#beOdd();
    else if (this.#total === this.#expected) {
      this.#message = this.#options.output.parse(bytesOf(chunks, PREFIX_BYTES, this.#total));
    }
  }

  onEnd(trailers: IncomingHttpHeaders | undefined): UnaryResponse | Promise<UnaryResponse> {
    const { method } = this.#options;
    const headers = new GrpcHeaders(this.#headers ?? {}, trailers);
    const message = this.#message;
    const isPlain = this.#odd === undefined && this.#validated === undefined && isPlainTrailer(trailers);
    if (isPlain && message !== undefined) return createCallResponse(method, message, headers);
    const { body, message: read } = this.#odd ?? this.#beOdd();
    body.end();
    return read.then((one) => judge(method, one, headers, this.#validated?.headerError));
  }

  #beOdd(): OddBody {
    const { output, readMaxBytes } = this.#options;
    const body = createBody(this.#context);
    for (const chunk of this.#chunks) body.push(chunk);
    const { compression = null } = this.#validated ?? validate(this.#headers ?? {});
    const odd = { body, message: readMessage(body, compression, output, readMaxBytes) };
    odd.message.catch((error) => this.#context.fail(error));
    this.#odd = odd;
    return odd;
  }
}

interface OddBody {
  readonly body: Body;
  readonly message: Promise<Message | undefined>;
}

class GrpcHeaders implements AnswerHeaders {
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
}

function validate(headers: ResponseHeaders): Validated {
  return validateResponseWithCompression(acceptCompression, headers[":status"] ?? 0, toWebHeaders(headers));
}

export function isPlainHeader(headers: ResponseHeaders): boolean {
  const type = headers["content-type"];
  return (
    headers[":status"] === 200 &&
    (type === "application/grpc+proto" || type === "application/grpc") &&
    ENCODINGS.has(headers["grpc-encoding"]) &&
    headers["grpc-status"] === undefined &&
    headers["grpc-status-details-bin"] === undefined
  );
}

export function isPlainTrailer(trailers: IncomingHttpHeaders | undefined): boolean {
  return trailers?.["grpc-status"] === "0" && trailers["grpc-status-details-bin"] === undefined;
}

/** The order and the words of Connect's transport. */
function judge(
  method: DescMethodUnary,
  message: Message | undefined,
  headers: GrpcHeaders,
  headerError: ConnectError | undefined,
): UnaryResponse {
  const { header, trailer } = headers;
  validateTrailer(trailer, header);
  if (message === undefined) {
    if (headerError !== undefined) throw headerError;
    throw new ConnectError(
      "protocol error: missing output message for unary method",
      trailer.has(headerGrpcStatus) ? Code.Unimplemented : Code.Unknown,
    );
  }
  if (headerError !== undefined) {
    throw new ConnectError("protocol error: received output message for unary method with error status", Code.Unknown);
  }
  return createCallResponse(method, message, headers);
}
