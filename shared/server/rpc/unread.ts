import type { DescMessage, DescMethodUnary } from "@bufbuild/protobuf";
import type { MethodImpl } from "@connectrpc/connect";
import { parseLater, serializeUnread } from "#shared/unread";
import type { CodecOptions } from "./codec.ts";
import type { Codecs } from "./method.ts";

const UNREAD = Symbol("leaves messages unread");

/**
 * Marks the handler of a unary method as one that hands messages on and does not look into them. Where its caller sends
 * plain protobuf, its messages are read when somebody does look (an interceptor may), and else go on byte for byte.
 *
 * @example
 * router.rpc(method, unread((message, context) => transport.unary(method, ..., message)));
 */
export function unread<Method extends DescMethodUnary>(handler: MethodImpl<Method>): MethodImpl<Method> {
  // In a function of its own: the same handler may serve other methods, without the mark.
  const marked: MethodImpl<DescMethodUnary> = (message, context) =>
    (handler as MethodImpl<DescMethodUnary>)(message, context);
  return Object.assign(marked as MethodImpl<Method>, { [UNREAD]: true });
}

export function leavesUnread(handler: object): boolean {
  return UNREAD in handler;
}

/** JSON is read and written as ever. */
export function unreadCodecs(
  input: DescMessage,
  codecs: Codecs,
  { readMaxBytes, writeMaxBytes }: CodecOptions,
): Codecs {
  const [binaryInput, binaryOutput] = [codecs.input.true, codecs.output.true];
  return {
    input: { ...codecs.input, true: { ...binaryInput, parse: parseLater(input, binaryInput, readMaxBytes) } },
    output: { ...codecs.output, true: { ...binaryOutput, serialize: serializeUnread(binaryOutput, writeMaxBytes) } },
  };
}
