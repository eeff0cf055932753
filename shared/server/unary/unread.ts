import type { DescMessage, DescMethodUnary } from "@bufbuild/protobuf";
import type { MethodImpl } from "@connectrpc/connect";
import type { MethodSerializationLookup } from "@connectrpc/connect/protocol";
import { parseLater, serializeUnread } from "#shared/unread";

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

type Lookup = MethodSerializationLookup<DescMessage, DescMessage>;

/** JSON is read and written as ever. */
export function unreadSerialization(
  { input }: DescMethodUnary,
  inner: Lookup,
  { readMaxBytes, writeMaxBytes }: { readonly readMaxBytes: number; readonly writeMaxBytes: number },
): Lookup {
  const binaryInput = inner.getI(true);
  const binaryOutput = inner.getO(true);
  const unreadInput = { ...binaryInput, parse: parseLater(input, binaryInput, readMaxBytes) };
  const unreadOutput = { ...binaryOutput, serialize: serializeUnread(binaryOutput, writeMaxBytes) };
  return {
    getI: (isBinary) => (isBinary ? unreadInput : inner.getI(false)),
    getO: (isBinary) => (isBinary ? unreadOutput : inner.getO(false)),
  };
}
