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

/** As Connect's own response has it, where nobody stops whoever assigns to what is readonly. */
const plainField = { enumerable: true, configurable: true, writable: true };

// A getter in a literal is another function for each object, and makes all of them slow.
const header = {
  get(this: Lazy) {
    return this[answerHeaders].header;
  },
  set(this: Lazy, value: Headers) {
    Object.defineProperty(this, "header", { ...plainField, value });
  },
  enumerable: true,
  configurable: true,
};
const trailer = {
  get(this: Lazy) {
    return this[answerHeaders].trailer;
  },
  set(this: Lazy, value: Headers) {
    Object.defineProperty(this, "trailer", { ...plainField, value });
  },
  enumerable: true,
  configurable: true,
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
