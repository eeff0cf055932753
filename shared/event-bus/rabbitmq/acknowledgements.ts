import type { Channel } from "rabbitmq-client";

/**
 * Acknowledges the deliveries of a channel. Those that are settled in one turn of the event loop are acknowledged together:
 * to a quorum queue each frame is an entry of its log, whether it acknowledges one delivery or many.
 */
export interface Acknowledgements {
  /** Whether the channel is open. When it is not, the broker delivers again what it has no acknowledgement of. */
  readonly isOpen: boolean;
  /** To be called with each delivery of the channel, in their order. */
  delivered(deliveryTag: number): void;
  acknowledge(deliveryTag: number): void;
  reject(deliveryTag: number, requeue: boolean): void;
  /** Sends the acknowledgements that wait for the end of the turn. To be called before the channel is closed. */
  flush(): void;
}

/** @param writeTogether called before several frames are written */
export function createAcknowledgements(channel: Channel, writeTogether: () => void): Acknowledgements {
  /** Deliveries without an answer, in their order. At most the consumer's prefetch. */
  const unanswered = new Set<number>();
  /** Deliveries to be acknowledged. */
  const due = new Set<number>();

  function flush(): void {
    if (due.size === 0 || !channel.active) return;
    // One frame for all up to the first delivery that has to wait. Those behind it have a frame each.
    let upTo: number | undefined;
    for (const deliveryTag of unanswered) {
      if (!due.delete(deliveryTag)) break;
      unanswered.delete(deliveryTag);
      upTo = deliveryTag;
    }
    if (due.size > 0) writeTogether();
    if (upTo !== undefined) channel.basicAck({ deliveryTag: upTo, multiple: true });
    for (const deliveryTag of due) {
      unanswered.delete(deliveryTag);
      channel.basicAck({ deliveryTag });
    }
    due.clear();
  }

  return {
    get isOpen() {
      return channel.active;
    },
    delivered: (deliveryTag) => unanswered.add(deliveryTag),
    acknowledge(deliveryTag) {
      // In the next round of the loop, after all that was received together: each message comes in an immediate of its own.
      if (due.size === 0) setImmediate(flush);
      due.add(deliveryTag);
    },
    reject(deliveryTag, requeue) {
      unanswered.delete(deliveryTag);
      if (channel.active) channel.basicNack({ deliveryTag, requeue });
    },
    flush,
  };
}
