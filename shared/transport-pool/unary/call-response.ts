import type { DescMethodUnary } from "@bufbuild/protobuf";
import type { UnaryResponse } from "@connectrpc/connect";

/** Headers and trailers of an answer, made when they are read. */
export interface AnswerHeaders {
  readonly header: Headers;
  readonly trailer: Headers;
}

const answerHeaders = Symbol("answer headers");

interface Lazy {
  readonly [answerHeaders]: AnswerHeaders;
}

// A getter in a literal is another function for each object, and makes all of them slow.
const header = {
  get(this: Lazy) {
    return this[answerHeaders].header;
  },
  enumerable: true,
};
const trailer = {
  get(this: Lazy) {
    return this[answerHeaders].trailer;
  },
  enumerable: true,
};

/** A response as Connect makes it. */
export function createCallResponse(
  method: DescMethodUnary,
  message: UnaryResponse["message"],
  headers: AnswerHeaders,
): UnaryResponse {
  const response = { stream: false, service: method.parent, method, message, [answerHeaders]: headers };
  Object.defineProperty(response, "header", header);
  Object.defineProperty(response, "trailer", trailer);
  return response as typeof response & Pick<UnaryResponse, "stream" | "header" | "trailer">;
}
