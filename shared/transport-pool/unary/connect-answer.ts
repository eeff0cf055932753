import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import type { UnaryResponse } from "@connectrpc/connect";
import { pipeTo, sinkAllBytes } from "@connectrpc/connect/protocol";
import {
  errorFromJsonBytes,
  trailerDemux,
  validateResponseWithCompression,
} from "@connectrpc/connect/protocol-connect";
import type { ResponseHeaders } from "../connections/unary-stream.ts";
import { type Answer, type AnswerContext, acceptCompression, bytesOf, type Output } from "./answer.ts";
import { type Body, createBody } from "./body.ts";
import { type AnswerHeaders, createCallResponse } from "./call-response.ts";
import { toWebHeaders } from "./node-headers.ts";

type Validated = ReturnType<typeof validateResponseWithCompression>;

export interface ConnectAnswerOptions {
  readonly method: DescMethodUnary;
  readonly output: Output;
  readonly readMaxBytes: number;
}

/**
 * Reads the plain good answer itself: status 200, and a message that is not compressed. Whatever else comes is given to
 * Connect's own functions from its first byte on.
 */
export class ConnectAnswer implements Answer {
  readonly #options: ConnectAnswerOptions;
  readonly #context: AnswerContext;
  #headers: ResponseHeaders = NO_HEADERS;
  #validated: Validated | undefined;
  readonly #chunks: Buffer[] = [];
  #total = 0;
  #most: number;
  #odd: OddBody | undefined;

  constructor(options: ConnectAnswerOptions, context: AnswerContext) {
    this.#options = options;
    this.#context = context;
    this.#most = options.readMaxBytes;
  }

  onHeaders(headers: ResponseHeaders): void {
    this.#headers = headers;
    const length = lengthOf(headers);
    if (length !== undefined && isPlainHeader(headers)) {
      this.#most = Math.min(this.#most, length);
      if (length > this.#options.readMaxBytes) this.#beOdd();
      return;
    }
    const status = headers[":status"] ?? 0;
    this.#validated = validateResponseWithCompression("unary", acceptCompression, true, status, toWebHeaders(headers));
    this.#beOdd();
  }

  onData(chunk: Buffer): void {
    if (this.#odd !== undefined) {
      this.#odd.body.push(chunk);
      return;
    }
    this.#chunks.push(chunk);
    this.#total += chunk.length;
    if (this.#total > this.#most) this.#beOdd();
  }

  onEnd(): UnaryResponse | Promise<UnaryResponse> {
    const { method, output } = this.#options;
    const total = this.#total;
    const headers = new ConnectHeaders(this.#headers);
    if (this.#odd === undefined && total === (lengthOf(this.#headers) ?? total)) {
      return createCallResponse(method, output.parse(bytesOf(this.#chunks, 0, total)), headers);
    }
    const { body, bytes } = this.#odd ?? this.#beOdd();
    body.end();
    return bytes.then((all) => judge(all, this.#options, headers, this.#validated));
  }

  #beOdd(): OddBody {
    const { readMaxBytes } = this.#options;
    const body = createBody(this.#context);
    for (const chunk of this.#chunks) body.push(chunk);
    const bytes = pipeTo(body, sinkAllBytes(readMaxBytes, this.#headers["content-length"] ?? null), {
      propagateDownStreamError: false,
    });
    bytes.catch((error) => this.#context.fail(error));
    this.#odd = { body, bytes };
    return this.#odd;
  }
}

const NO_HEADERS: ResponseHeaders = {};

interface OddBody {
  readonly body: Body;
  readonly bytes: Promise<Uint8Array>;
}

function isPlainHeader(headers: ResponseHeaders): boolean {
  return (
    headers[":status"] === 200 &&
    headers["content-type"] === "application/proto" &&
    headers["content-encoding"] === undefined
  );
}

/** Infinity when nobody has said; undefined when what was said is no plain number. */
function lengthOf(headers: IncomingHttpHeaders): number | undefined {
  const text = headers["content-length"];
  if (text === undefined) return Number.POSITIVE_INFINITY;
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

class ConnectHeaders implements AnswerHeaders {
  readonly #headers: IncomingHttpHeaders;
  #both: [header: Headers, trailer: Headers] | undefined;

  constructor(headers: IncomingHttpHeaders) {
    this.#headers = headers;
  }

  get header(): Headers {
    return this.#demuxed()[0];
  }

  get trailer(): Headers {
    return this.#demuxed()[1];
  }

  #demuxed(): [header: Headers, trailer: Headers] {
    this.#both ??= trailerDemux(toWebHeaders(this.#headers));
    return this.#both;
  }
}

/** The order of Connect's transport. */
async function judge(
  received: Uint8Array,
  { method, output, readMaxBytes }: ConnectAnswerOptions,
  headers: ConnectHeaders,
  validated: Validated | undefined,
): Promise<UnaryResponse> {
  const bytes =
    (await validated?.compression?.decompress(received as Uint8Array<ArrayBuffer>, readMaxBytes)) ?? received;
  if (validated?.isUnaryError === true) {
    const { header, trailer } = headers;
    trailer.forEach((value, name) => {
      header.append(name, value);
    });
    throw errorFromJsonBytes(bytes, header, validated.unaryError);
  }
  return createCallResponse(method, output.parse(bytes), headers);
}
