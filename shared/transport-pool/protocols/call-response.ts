import type { DescMethod } from "@bufbuild/protobuf";
import type { UnaryResponse } from "@connectrpc/connect";

/** Headers and trailers of a response, created when they are read. */
export interface ResponseMetadata {
  readonly header: Headers;
  readonly trailer: Headers;
}

const metadataKey = Symbol("metadata");

interface Lazy {
  readonly [metadataKey]: ResponseMetadata;
}

/** As Connect's own response has it, where nobody stops whoever assigns to what is readonly. */
const plainField = { enumerable: true, configurable: true, writable: true };

// A getter in a literal is another function for each object, and makes all of them slow.
const header = {
  get(this: Lazy) {
    return this[metadataKey].header;
  },
  set(this: Lazy, value: Headers) {
    Object.defineProperty(this, "header", { ...plainField, value });
  },
  enumerable: true,
  configurable: true,
};
const trailer = {
  get(this: Lazy) {
    return this[metadataKey].trailer;
  },
  set(this: Lazy, value: Headers) {
    Object.defineProperty(this, "trailer", { ...plainField, value });
  },
  enumerable: true,
  configurable: true,
};

/** A unary response as Connect makes it; headers and trailers are created when they are read. */
export function createUnaryResponse(
  method: DescMethod,
  message: UnaryResponse["message"],
  metadata: ResponseMetadata,
): UnaryResponse {
  const response = { stream: false, service: method.parent, method, message, [metadataKey]: metadata };
  Object.defineProperty(response, "header", header);
  Object.defineProperty(response, "trailer", trailer);
  return response as typeof response & Pick<UnaryResponse, "stream" | "method" | "header" | "trailer">;
}
