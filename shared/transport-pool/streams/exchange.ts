import type { IncomingHttpHeaders } from "node:http2";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type StreamRequest, type StreamResponse } from "@connectrpc/connect";
import type { Serialization } from "@connectrpc/connect/protocol";
import { validateResponseWithCompression, validateTrailer } from "@connectrpc/connect/protocol-grpc";
import { frameMessages } from "#shared/rpc";
import { errorFromNode } from "../connections/node-errors.ts";
import type { Http2Subchannel } from "../connections/subchannel.ts";
import type { ResponseHeaders, SentUnary, UnaryExchange } from "../connections/unary-stream.ts";
import { acceptCompression } from "../unary/answer.ts";
import type { BodyFlow } from "../unary/body.ts";
import { isPlainHeader, isPlainTrailer } from "../unary/grpc-answer.ts";
import { toWebHeaders } from "../unary/node-headers.ts";
import { rawHeadersOf } from "../unary/request-headers.ts";
import { Messages } from "./messages.ts";

type Validated = ReturnType<typeof validateResponseWithCompression>;

/** What one method's calls have in common. */
export interface StreamMethod {
  serialize(message: Message): Uint8Array;
  readonly output: Serialization<Message>;
  readonly readMaxBytes: number;
}

/**
 * Sends a server-streaming request to the peer, and resolves with the response when its headers are there. Ends with the
 * request's signal, as it does in stock Connect.
 */
export async function exchange(
  request: StreamRequest,
  path: string,
  method: StreamMethod,
  subchannel: Http2Subchannel,
): Promise<StreamResponse> {
  const { signal } = request;
  const { promise, resolve, reject } = Promise.withResolvers<StreamResponse>();
  let stream: SentUnary | undefined;
  let answer: Answer | undefined;
  let received: IncomingHttpHeaders | undefined;
  let isOver = false;

  function fail(reason: unknown): void {
    if (isOver) return;
    over();
    stream?.cancel();
    reject(reason);
    answer?.messages.fail(reason);
  }

  function over(): void {
    isOver = true;
    signal.removeEventListener("abort", onAbort);
  }

  function onAbort(): void {
    fail(errorFromNode(signal.reason));
  }

  function opened(one: SentUnary): void {
    stream = one;
    if (isOver) one.cancel();
  }

  signal.addEventListener("abort", onAbort);
  try {
    if (signal.aborted) onAbort();
    // What is aborted while it waits for the message need not wait.
    const body = await Promise.race([bodyOf(request.message, method), promise]);
    if (!(body instanceof Uint8Array)) return body;
    if (isOver) return await promise;
    const sent: UnaryExchange = {
      method: "POST",
      path,
      headers: rawHeadersOf(request, undefined),
      body,
      onHeaders(headers) {
        answer = createAnswer(headers, method, { pause: () => stream?.pause(), resume: () => stream?.resume() });
        const { header, trailer, messages } = answer;
        const { service, method: descriptor } = request;
        resolve({ stream: true, service, method: descriptor, header, trailer, message: messages });
      },
      onData: (chunk) => answer?.messages.onData(chunk),
      onTrailers(trailers) {
        received = trailers;
      },
      onEnd() {
        over();
        if (answer === undefined) reject(new ConnectError("protocol error: missing headers", Code.Internal));
        answer?.end(received);
      },
      onError: fail,
    };
    const opening = subchannel.send(sent, signal);
    if (opening instanceof Promise) opening.then(opened, (reason) => fail(errorFromNode(reason)));
    else opened(opening);
  } catch (error) {
    fail(errorFromNode(error));
  }
  return await promise;
}

/** A server-streaming method's one message; more than that is for the peer to refuse, for which two are enough. */
async function bodyOf(messages: AsyncIterable<Message>, { serialize }: StreamMethod): Promise<Uint8Array> {
  const iterator = messages[Symbol.asyncIterator]();
  const sent: Uint8Array[] = [];
  for (;;) {
    const { done, value } = await iterator.next();
    if (done === true) return frameMessages(sent);
    sent.push(serialize(value));
    if (sent.length > 1) {
      await iterator.return?.();
      return frameMessages(sent);
    }
  }
}

interface Answer {
  readonly header: Headers;
  /** Empty until the end. */
  readonly trailer: Headers;
  readonly messages: Messages;
  end(trailers: IncomingHttpHeaders | undefined): void;
}

/** @throws what the headers say of a failure */
function createAnswer(headers: ResponseHeaders, { output, readMaxBytes }: StreamMethod, flow: BodyFlow): Answer {
  const header = toWebHeaders(headers);
  const trailer = new Headers();
  const { compression, foundStatus, headerError } = isPlainHeader(headers)
    ? plain(headers)
    : validateResponseWithCompression(acceptCompression, headers[":status"] ?? 0, header);
  if (headerError !== undefined) throw headerError;
  const messages = new Messages({
    ...flow,
    serialization: output,
    readMaxBytes,
    compression,
    checkTrailers(trailers) {
      if (!foundStatus && !isPlainTrailer(trailers)) validateTrailer(trailer, header);
    },
  });
  return {
    header,
    trailer,
    messages,
    end(trailers) {
      for (const [name, value] of toWebHeaders(trailers)) trailer.set(name, value);
      messages.onEnd(trailers);
    },
  };
}

/** What Connect finds in plain headers: they may name what some messages are compressed with. */
function plain(headers: ResponseHeaders): Pick<Validated, "compression" | "foundStatus" | "headerError"> {
  const compression = acceptCompression.find(({ name }) => name === headers["grpc-encoding"]);
  return { compression, foundStatus: false, headerError: undefined };
}
