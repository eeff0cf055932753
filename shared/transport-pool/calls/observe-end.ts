/** The items as they are, with word of how they ended. Nothing is told of a stream that nobody reads to its end. */
export async function* observeEnd<T>(items: AsyncIterable<T>, onEnd: () => void, onError: (reason: unknown) => void) {
  try {
    yield* items;
  } catch (error) {
    onError(error);
    throw error;
  }
  onEnd();
}
