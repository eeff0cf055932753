import type { IncomingHttpHeaders } from "node:http2";
import type { UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import { errorFromNode } from "../connections/node-errors.ts";
import type { Subchannel } from "../connections/subchannel.ts";
import type { SentUnary, UnaryExchange } from "../connections/unary-stream.ts";
import type { Answer, UnaryMethod } from "./answer.ts";
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
    const { signal } = request;
    let sent: SentUnary | undefined;
    let trailers: IncomingHttpHeaders | undefined;
    let isOver = false;

    function fail(reason: unknown): void {
      if (isOver) return;
      over();
      sent?.cancel();
      reject(reason);
    }

    function succeed(response: UnaryResponse): void {
      if (isOver) return;
      over();
      resolve(response);
    }

    function over(): void {
      isOver = true;
      signal.removeEventListener("abort", onAbort);
    }

    function failToSend(reason: unknown): void {
      fail(errorFromNode(reason));
    }

    function onAbort(): void {
      failToSend(signal.reason);
    }

    function opened(one: SentUnary): void {
      sent = one;
      if (isOver) one.cancel();
    }

    const answer: Answer = method.expect({
      fail,
      pause: () => sent?.pause(),
      resume: () => sent?.resume(),
    });
    try {
      signal.throwIfAborted();
      const toSend: UnaryExchange = {
        method: method.httpMethod(request),
        path,
        headers: rawHeadersOf(request, method.omit),
        body: method.serialize(request.message),
        onHeaders: answer.onHeaders,
        onData: answer.onData,
        onTrailers(received) {
          trailers = received;
        },
        onEnd() {
          const response = answer.onEnd(trailers);
          if (response instanceof Promise) response.then(succeed, fail);
          else succeed(response);
        },
        onError: fail,
      };
      signal.addEventListener("abort", onAbort);
      const opening = subchannel.send(toSend, signal);
      if (opening instanceof Promise) opening.then(opened, failToSend);
      else opened(opening);
    } catch (error) {
      failToSend(error);
    }
  });
}
