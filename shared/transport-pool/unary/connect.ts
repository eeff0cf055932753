import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import type { UnaryResponse } from "@connectrpc/connect";
import { pipeTo, sinkAllBytes } from "@connectrpc/connect/protocol";
import {
  errorFromJsonBytes,
  requestHeaderWithCompression,
  trailerDemux,
  validateResponseWithCompression,
} from "@connectrpc/connect/protocol-connect";
import type { ResponseHeaders } from "../connections/unary-stream.ts";
import {
  type Answer,
  type AnswerContext,
  acceptCompression,
  bytesOf,
  type CreateUnaryMethod,
  serializationOf,
} from "./answer.ts";
import { type Body, createBody } from "./body.ts";
import { toWebHeaders } from "./node-headers.ts";

type Output = ReturnType<typeof serializationOf>["output"];
type Validated = ReturnType<typeof validateResponseWithCompression>;

/** The Connect protocol. */
export const createConnectMethod: CreateUnaryMethod = (method, readMaxBytes) => {
  const { serialize, output, unreadOutput } = serializationOf(method, readMaxBytes);
  const stock = requestHeaderWithCompression("unary", true, undefined, undefined, acceptCompression, null, true);
  const userAgent = stock.get("user-agent") ?? "";
  stock.delete("user-agent");
  return {
    header: [...stock, ["user-agent", userAgent]].flat(),
    timeout: { name: "connect-timeout-ms", suffix: "" },
    // Nothing is compressed, whatever an interceptor says.
    omit: "content-encoding",
    httpMethod: ({ requestMethod }) => requestMethod,
    serialize,
    expect: (context) => createConnectAnswer(method, context.isUnread ? unreadOutput : output, readMaxBytes, context),
  };
};

/**
 * Reads the plain good answer itself: status 200, and a message that is not compressed. Whatever else comes is given to
 * Connect's own functions from its first byte on.
 */
function createConnectAnswer(
  method: DescMethodUnary,
  output: Output,
  readMaxBytes: number,
  context: AnswerContext,
): Answer {
  let headers: ResponseHeaders = {};
  let validated: Validated | undefined;
  const chunks: Buffer[] = [];
  let total = 0;
  let most = readMaxBytes;
  let odd: OddBody | undefined;

  function beOdd(): OddBody {
    const body = createBody(context);
    for (const chunk of chunks) body.push(chunk);
    const bytes = pipeTo(body, sinkAllBytes(readMaxBytes, headers["content-length"] ?? null), {
      propagateDownStreamError: false,
    });
    odd = { body, bytes };
    bytes.catch(context.fail);
    return odd;
  }

  return {
    onHeaders(received) {
      headers = received;
      const length = lengthOf(received);
      if (length !== undefined && isPlainHeader(received)) {
        most = Math.min(most, length);
        if (length > readMaxBytes) beOdd();
        return;
      }
      const header = toWebHeaders(received);
      validated = validateResponseWithCompression("unary", acceptCompression, true, received[":status"] ?? 0, header);
      beOdd();
    },
    onData(chunk) {
      if (odd !== undefined) {
        odd.body.push(chunk);
        return;
      }
      chunks.push(chunk);
      total += chunk.length;
      if (total > most) beOdd();
    },
    onEnd() {
      if (odd === undefined && total === (lengthOf(headers) ?? total)) {
        return responseOf(method, output.parse(bytesOf(chunks, 0, total)), headers);
      }
      const { body, bytes } = odd ?? beOdd();
      body.end();
      return bytes.then((all) => judge(all, { method, headers, output, readMaxBytes, validated }));
    },
  };
}

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

function responseOf(
  method: DescMethodUnary,
  message: UnaryResponse["message"],
  headers: IncomingHttpHeaders,
): UnaryResponse {
  let demuxed: [header: Headers, trailer: Headers] | undefined;
  const both = () => {
    demuxed ??= trailerDemux(toWebHeaders(headers));
    return demuxed;
  };
  return {
    stream: false,
    service: method.parent,
    method,
    message,
    get header() {
      return both()[0];
    },
    get trailer() {
      return both()[1];
    },
  };
}

interface Received {
  readonly method: DescMethodUnary;
  readonly headers: IncomingHttpHeaders;
  readonly output: Output;
  readonly readMaxBytes: number;
  readonly validated: Validated | undefined;
}

/** The order of Connect's transport. */
async function judge(received: Uint8Array, { method, headers, output, readMaxBytes, validated }: Received) {
  const bytes =
    (await validated?.compression?.decompress(received as Uint8Array<ArrayBuffer>, readMaxBytes)) ?? received;
  if (validated?.isUnaryError === true) {
    const [header, trailer] = trailerDemux(toWebHeaders(headers));
    trailer.forEach((value, name) => {
      header.append(name, value);
    });
    throw errorFromJsonBytes(bytes, header, validated.unaryError);
  }
  return responseOf(method, output.parse(bytes), headers);
}
