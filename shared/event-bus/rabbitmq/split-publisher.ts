import { createPublisher, type Publisher, type PublisherOptions } from "./publisher.ts";

/** Bodies from this size on have a channel of their own. */
const LARGE_BYTES = 256 * 1024;

/**
 * A publisher with one channel for large bodies and one for the others. The frames of two channels take turns on a connection, so
 * small events pass a large one that takes long on a slow link. A publisher that needs an order waits for each confirmation.
 */
export function createSplitPublisher(options: Omit<PublisherOptions, "load">): Publisher {
  const load = { bytes: 0 };
  const small = createPublisher({ ...options, load });
  const large = createPublisher({ ...options, load });
  return {
    send: (envelope, body, signal) => (body.length < LARGE_BYTES ? small : large).send(envelope, body, signal),
    get unconfirmed() {
      return small.unconfirmed + large.unconfirmed;
    },
    async close(timeoutMs) {
      await Promise.all([small.close(timeoutMs), large.close(timeoutMs)]);
    },
  };
}
