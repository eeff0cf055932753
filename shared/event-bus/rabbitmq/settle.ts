import { setTimeout as delay } from "node:timers/promises";
import type { AsyncMessage, Channel } from "rabbitmq-client";
import { DomainError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import type { Outcome, Received } from "../consuming/handling.ts";
import { HEADERS } from "./amqp-message.ts";
import type { BrokerConnection } from "./connection.ts";
import type { Publisher } from "./publisher.ts";
import { readdressed } from "./readdressed.ts";
import { retryDelay } from "./retry-delay.ts";
import { deadLetterQueueOf, retryQueueOf } from "./topology.ts";

/** A message and where its answer goes. */
export interface Delivery extends Received {
  readonly message: AsyncMessage;
  readonly channel: Channel;
  /** Called when it is answered, or is not to be. */
  readonly onSettled?: () => void;
}

export interface SettlerOptions {
  readonly queue: string;
  /** Empty: there are no retries. */
  readonly retryDelaysMs: readonly number[];
  readonly keepsDeadLetters: boolean;
  readonly links: () => { readonly connection: BrokerConnection; readonly publisher: Publisher };
  /** Makes the queues again that a message is to be put aside in. */
  readonly declare: () => Promise<unknown>;
  readonly closing: AbortSignal;
  readonly logger: Logger;
}

/** Carries out what became of a message. Never rejects. */
export type Settler = (delivery: Delivery, outcome: Outcome) => Promise<void>;

export function createSettler(options: SettlerOptions): Settler {
  const { queue, retryDelaysMs, keepsDeadLetters, links, declare, closing, logger } = options;

  /** Where it goes, and with which headers; undefined when it is done with. */
  function nextPlace(attempt: number, outcome: Outcome) {
    if (outcome.kind === "retry" && retryDelaysMs.length > 0) {
      const target = retryQueueOf(queue, retryDelaysMs[attempt - 1] ?? 0);
      return { target, headers: { [HEADERS.attempt]: attempt + 1 } };
    }
    if (outcome.kind !== "dead" || !keepsDeadLetters) return undefined;
    const headers = {
      [HEADERS.attempt]: attempt,
      [HEADERS.deadReason]: outcome.reason,
      [HEADERS.deadError]: String(outcome.error),
      [HEADERS.deadAt]: new Date().toISOString(),
    };
    return { target: deadLetterQueueOf(queue), headers };
  }

  /** Until the broker has confirmed it, or the delivery is void: then the message comes again. */
  async function putAside(
    { message, channel }: Delivery,
    { target, headers }: NonNullable<ReturnType<typeof nextPlace>>,
  ) {
    const { envelope, body } = readdressed(message, target, headers);
    for (let failures = 0; channel.active && !closing.aborted; failures++) {
      try {
        await links().publisher.send(envelope, body);
        return true;
      } catch (err) {
        if (err instanceof DomainError && err.reason === "EVENT_TOO_LARGE") throw err;
        logger.warn({ queue, target, err }, "a failed event cannot be put aside yet");
        await delay(retryDelay(failures), undefined, { signal: closing }).catch(() => {});
        // Somebody has deleted it.
        if (err instanceof DomainError && err.reason === "EVENT_UNROUTABLE") await declare().catch(() => {});
      }
    }
    return false;
  }

  async function putAsideOrNack(delivery: Delivery, place: NonNullable<ReturnType<typeof nextPlace>>) {
    try {
      return await putAside(delivery, place);
    } catch (err) {
      logger.error({ queue, event_id: delivery.envelope.id, err }, "the broker makes a dead letter of the event");
      if (delivery.channel.active)
        delivery.channel.basicNack({ deliveryTag: delivery.message.deliveryTag, requeue: false });
      return false;
    }
  }

  /** The message goes to its next place first and is acknowledged then: a crash between makes a copy, not a gap. */
  return async (delivery, outcome) => {
    const place = nextPlace(delivery.attempt, outcome);
    const isAside = place === undefined || (await putAsideOrNack(delivery, place));
    if (isAside && delivery.channel.active) {
      links().connection.writeTogether();
      delivery.channel.basicAck({ deliveryTag: delivery.message.deliveryTag });
    }
    delivery.onSettled?.();
  };
}
