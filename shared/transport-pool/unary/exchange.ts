import type { IncomingHttpHeaders } from "node:http2";
import type { UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import { unreadBytes } from "#shared/unread";
import { errorFromNode } from "../connections/node-errors.ts";
import type { Subchannel } from "../connections/subchannel.ts";
import type { ResponseHeaders, SentUnary, UnaryExchange } from "../connections/unary-stream.ts";
import { type EndSignal, endOf } from "../policies/call-end.ts";
import type { Answer, AnswerContext, UnaryMethod } from "./answer.ts";
import { rawHeadersOf } from "./request-headers.ts";

/**
 * Sends the request to the peer, and resolves with its answer. Ends with the request's signal, as it does in stock
 * Connect.
 */
export function exchange(
  request: UnaryRequest,
  path: string,
  method: UnaryMethod,
  subchannel: Pick<Subchannel, "send">,
): Promise<UnaryResponse> {
  return new Promise((resolve, reject) => {
    const signal = endOf(request);
    try {
      signal.throwIfAborted();
      const toSend = {
        method: method.httpMethod(request),
        path,
        headers: rawHeadersOf(request, method.omit),
        body: method.serialize(request.message),
        isUnread: unreadBytes(request.message) !== undefined,
      };
      new Exchange(toSend, method, { signal, resolve, reject }).begin(subchannel);
    } catch (error) {
      reject(errorFromNode(error));
    }
  });
}

type ToSend = Pick<UnaryExchange & AnswerContext, "method" | "path" | "headers" | "body" | "isUnread">;

interface Call {
  readonly signal: EndSignal;
  readonly resolve: (response: UnaryResponse) => void;
  readonly reject: (reason: unknown) => void;
}

/** One object, where closures would be a dozen. */
class Exchange implements UnaryExchange, AnswerContext {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly string[];
  readonly body: Uint8Array;
  readonly isUnread: boolean;
  readonly #signal: EndSignal;
  readonly #resolve: Call["resolve"];
  readonly #reject: Call["reject"];
  readonly #answer: Answer;
  readonly #onAbort = () => this.#failToSend(this.#signal.reason);
  #sent: SentUnary | undefined;
  #trailers: IncomingHttpHeaders | undefined;
  #isOver = false;

  constructor(
    { method, path, headers, body, isUnread }: ToSend,
    protocol: UnaryMethod,
    { signal, resolve, reject }: Call,
  ) {
    this.method = method;
    this.path = path;
    this.headers = headers;
    this.body = body;
    this.isUnread = isUnread;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#answer = protocol.expect(this);
  }

  begin(subchannel: Pick<Subchannel, "send">): void {
    const signal = this.#signal;
    signal.addEventListener("abort", this.#onAbort);
    try {
      const opening = subchannel.send(this, signal);
      if (opening instanceof Promise) {
        opening.then(
          (sent) => this.#opened(sent),
          (reason) => this.#failToSend(reason),
        );
      } else this.#opened(opening);
    } catch (error) {
      this.#failToSend(error);
    }
  }

  onHeaders(headers: ResponseHeaders): void {
    this.#answer.onHeaders(headers);
  }

  onData(chunk: Buffer): void {
    this.#answer.onData(chunk);
  }

  onTrailers(trailers: IncomingHttpHeaders): void {
    this.#trailers = trailers;
  }

  onEnd(): void {
    const response = this.#answer.onEnd(this.#trailers);
    if (response instanceof Promise) {
      response.then(
        (one) => this.#succeed(one),
        (reason) => this.fail(reason),
      );
    } else this.#succeed(response);
  }

  onError(reason: unknown): void {
    this.fail(reason);
  }

  fail(reason: unknown): void {
    if (this.#isOver) return;
    this.#over();
    this.#sent?.cancel();
    this.#reject(reason);
  }

  pause(): void {
    this.#sent?.pause();
  }

  resume(): void {
    this.#sent?.resume();
  }

  #succeed(response: UnaryResponse): void {
    if (this.#isOver) return;
    this.#over();
    this.#resolve(response);
  }

  #over(): void {
    this.#isOver = true;
    this.#signal.removeEventListener("abort", this.#onAbort);
  }

  #failToSend(reason: unknown): void {
    this.fail(errorFromNode(reason));
  }

  #opened(sent: SentUnary): void {
    this.#sent = sent;
    if (this.#isOver) sent.cancel();
  }
}
