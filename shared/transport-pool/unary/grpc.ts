import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { Code, ConnectError, type UnaryResponse } from "@connectrpc/connect";
import {
  pipeTo,
  transformDecompressEnvelope,
  transformParseEnvelope,
  transformSplitEnvelope,
} from "@connectrpc/connect/protocol";
import {
  headerGrpcStatus,
  requestHeaderWithCompression,
  validateResponseWithCompression,
  validateTrailer,
} from "@connectrpc/connect/protocol-grpc";
import { LazyHeaders } from "#shared/unread";
import type { ResponseHeaders } from "../connections/unary-stream.ts";
import {
  type Answer,
  type AnswerContext,
  acceptCompression,
  bytesOf,
  type CreateUnaryMethod,
  serializationOf,
  type UnaryMethod,
} from "./answer.ts";
import { type Body, createBody } from "./body.ts";
import { toWebHeaders } from "./node-headers.ts";

type Message = UnaryResponse["message"];
type Output = ReturnType<typeof serializationOf>["output"];
type Validated = ReturnType<typeof validateResponseWithCompression>;

/** Flags, and the length of the message. */
const PREFIX = 5;

/**
 * Connect's servers name one for each call that accepts it, and do not compress small messages: each message's own flag
 * says whether it is compressed.
 */
const ENCODINGS: ReadonlySet<unknown> = new Set([undefined, "identity", ...acceptCompression.map(({ name }) => name)]);

/** gRPC over HTTP/2. */
export const createGrpcMethod: CreateUnaryMethod = (method, readMaxBytes) => {
  const { serialize, output, unreadOutput } = serializationOf(method, readMaxBytes);
  return {
    ...grpcRequestHeaders(),
    omit: undefined,
    httpMethod: () => "POST",
    serialize(message) {
      const bytes = serialize(message);
      const framed = Buffer.allocUnsafe(PREFIX + bytes.length);
      framed[0] = 0;
      framed.writeUInt32BE(bytes.length, 1);
      framed.set(bytes, PREFIX);
      return framed;
    },
    expect: (context) => createGrpcAnswer(method, context.isUnread ? unreadOutput : output, readMaxBytes, context),
  };
};

/** What is the same for each request, of unary calls and of streams. */
export function grpcRequestHeaders(): Pick<UnaryMethod, "header" | "timeout"> {
  const stock = requestHeaderWithCompression(true, undefined, undefined, acceptCompression, null);
  const userAgent = stock.get("user-agent") ?? "";
  stock.delete("user-agent");
  return {
    header: [...stock, ["user-agent", userAgent]].flat(),
    timeout: { name: "grpc-timeout", suffix: "m" },
  };
}

/**
 * Reads the plain good answer itself: one message that is not compressed, whatever the headers say of others, and
 * `grpc-status: 0` in the trailers. Whatever else comes is given to Connect's own functions from its first byte on.
 */
function createGrpcAnswer(
  method: DescMethodUnary,
  output: Output,
  readMaxBytes: number,
  context: AnswerContext,
): Answer {
  let headers: ResponseHeaders = {};
  let validated: Validated | undefined;
  const chunks: Buffer[] = [];
  let total = 0;
  /** Of the prefix and the first message, when the prefix is there. */
  let expected = Number.POSITIVE_INFINITY;
  let message: Message | undefined;
  let odd: OddBody | undefined;

  function validate(): Validated {
    return validateResponseWithCompression(acceptCompression, headers[":status"] ?? 0, toWebHeaders(headers));
  }

  function beOdd(): OddBody {
    const body = createBody(context);
    for (const chunk of chunks) body.push(chunk);
    const compression = (validated ?? validate()).compression ?? null;
    odd = { body, message: readMessage(body, compression, output, readMaxBytes) };
    odd.message.catch(context.fail);
    return odd;
  }

  return {
    onHeaders(received) {
      headers = received;
      if (!isPlainHeader(received)) validated = validate();
    },
    onData(chunk) {
      if (odd !== undefined) {
        odd.body.push(chunk);
        return;
      }
      chunks.push(chunk);
      total += chunk.length;
      if (expected === Number.POSITIVE_INFINITY) {
        if (total < PREFIX) return;
        const prefix = chunks.length === 1 ? chunk : Buffer.concat(chunks);
        const length = prefix.readUInt32BE(1);
        if (prefix[0] !== 0 || length > readMaxBytes) {
          beOdd();
          return;
        }
        expected = PREFIX + length;
      }
      if (total > expected) beOdd();
      else if (total === expected) message = output.parse(bytesOf(chunks, PREFIX, total));
    },
    onEnd(trailers) {
      const isPlain = odd === undefined && validated === undefined && message !== undefined && isPlainTrailer(trailers);
      if (isPlain && message !== undefined) return responseOf(method, message, headers, trailers);
      const { body, message: read } = odd ?? beOdd();
      body.end();
      return read.then((one) => judge(method, one, { headers, trailers, headerError: validated?.headerError }));
    },
  };
}

interface OddBody {
  readonly body: Body;
  readonly message: Promise<Message | undefined>;
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

function responseOf(
  method: DescMethodUnary,
  message: Message,
  headers: IncomingHttpHeaders,
  trailers: IncomingHttpHeaders | undefined,
): UnaryResponse {
  let header: Headers | undefined;
  let trailer: Headers | undefined;
  return {
    stream: false,
    service: method.parent,
    method,
    message,
    get header() {
      header ??= new LazyHeaders(headers);
      return header;
    },
    get trailer() {
      trailer ??= new LazyHeaders(trailers ?? {});
      return trailer;
    },
  };
}

async function readMessage(
  body: Body,
  compression: Validated["compression"] | null,
  output: Output,
  readMaxBytes: number,
): Promise<Message | undefined> {
  return await pipeTo(
    body,
    transformSplitEnvelope(readMaxBytes),
    transformDecompressEnvelope(compression ?? null, readMaxBytes),
    transformParseEnvelope(output),
    async (messages) => {
      let message: Message | undefined;
      for await (const one of messages) {
        if (message !== undefined) {
          throw new ConnectError("protocol error: received extra output message for unary method", Code.Unimplemented);
        }
        message = one;
      }
      return message;
    },
    { propagateDownStreamError: false },
  );
}

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders | undefined;
  readonly headerError: ConnectError | undefined;
}

/** The order and the words of Connect's transport. */
function judge(method: DescMethodUnary, message: Message | undefined, received: Received): UnaryResponse {
  const { headers, trailers, headerError } = received;
  const trailer = toWebHeaders(trailers);
  validateTrailer(trailer, toWebHeaders(headers));
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
  return responseOf(method, message, headers, trailers);
}
