import { watchItems } from "#shared/rpc";

/** The items as they are, with word of how they ended. Nothing is told of a stream that nobody reads to its end. */
export function observeEnd<T>(
  items: AsyncIterable<T>,
  onEnd: () => void,
  onError: (reason: unknown) => void,
): AsyncIterable<T> {
  return watchItems(items, {
    onEnd,
    onError(reason) {
      onError(reason);
      return reason;
    },
  });
}
