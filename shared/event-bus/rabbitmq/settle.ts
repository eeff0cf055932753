import type { AsyncMessage } from "rabbitmq-client";
import { DomainError, textOf } from "#shared/errors";
import type { LogThrottle } from "#shared/logging";
import { createBackoff, sleep } from "#shared/timing";
import type { Disposition } from "../consuming/disposition.ts";
import type { Received } from "../consuming/handling.ts";
import type { Settle } from "../consuming/pipeline.ts";
import type { Acknowledgements } from "./acknowledgements.ts";
import { HEADERS } from "./amqp-message.ts";
import { handledTypesExchangeOf } from "./handled-types.ts";
import type { Publisher } from "./publisher.ts";
import { type Readdressed, readdressed } from "./readdressed.ts";
import { deadLetterQueueOf, retryQueueOf } from "./topology.ts";

/** A message, and where it is acknowledged. */
export interface Delivery extends Received {
  readonly message: AsyncMessage;
  readonly acknowledgements: Acknowledgements;
  /** Was given back without an answer again and again: its handler may be what ends the process. */
  readonly isSuspect: boolean;
}

export interface SettlerOptions {
  readonly queue: string;
  readonly keepsDeadLetters: boolean;
  /** Maximum time that a message stays unanswered because it cannot be put aside, in milliseconds. */
  readonly maxUnansweredMs: number;
  readonly links: () => { readonly publisher: Publisher };
  /** Declares the queues again that messages are put aside in. */
  readonly declare: () => Promise<unknown>;
  /** Called for a message that went to another version of the service, which handles its type. */
  readonly onHandedOver: () => void;
  readonly closing: AbortSignal;
  readonly log: LogThrottle;
}

/** Another place for a message, with the headers that it gets besides. */
interface Place {
  readonly exchange: string;
  readonly routingKey: string;
  readonly headers: Readonly<Record<string, string | number>>;
}

export function createSettler(options: SettlerOptions): Settle<Delivery> {
  const { queue, keepsDeadLetters, maxUnansweredMs, links, declare, onHandedOver, closing, log } = options;

  function placeOf({ attempt, postponed, unknownRounds }: Delivery, disposition: Disposition): Place | undefined {
    if (disposition.kind === "retry") {
      const headers = {
        [HEADERS.attempt]: disposition.attempt,
        [HEADERS.postponed]: disposition.postponed,
        [HEADERS.unknownRounds]: disposition.unknownRounds,
      };
      return { exchange: "", routingKey: retryQueueOf(queue, disposition.delayMs), headers };
    }
    // An ephemeral queue has no dead letters, and no other version of the service.
    if (!keepsDeadLetters) return undefined;
    if (disposition.kind === "ignore") {
      const headers = { [HEADERS.unknownRounds]: unknownRounds + 1 };
      return { exchange: handledTypesExchangeOf(queue), routingKey: disposition.type, headers };
    }
    if (disposition.kind !== "dead-letter") return undefined;
    const headers = {
      [HEADERS.attempt]: attempt + postponed,
      [HEADERS.deadReason]: disposition.reason,
      [HEADERS.deadError]: textOf(disposition.error),
      [HEADERS.deadAt]: new Date().toISOString(),
    };
    return { exchange: "", routingKey: deadLetterQueueOf(queue), headers };
  }

  /** Publishes the message to its next place until the broker has confirmed it, or the time is over. */
  async function putAside(answers: Acknowledgements, { envelope, body }: Readdressed, place: Place): Promise<Moved> {
    const giveUpAt = performance.now() + maxUnansweredMs;
    const backoff = createBackoff({ initialMs: 100, maxMs: 5_000 });
    while (answers.isOpen && !closing.aborted && performance.now() < giveUpAt) {
      try {
        await links().publisher.send({ ...envelope, exchange: place.exchange }, body);
        return "moved";
      } catch (err) {
        const reason = err instanceof DomainError ? err.reason : undefined;
        if (reason === "EVENT_TOO_LARGE") throw err;
        if (reason === "EVENT_UNROUTABLE" && place.exchange !== "") return "unroutable";
        log.warn("put aside", { queue, target: place.routingKey, err }, "a failed event cannot be put aside yet");
        await sleep(backoff.next(), closing);
        // The queue may have been deleted.
        if (reason === "EVENT_UNROUTABLE" || backoff.failures > 1) await declare().catch(() => {});
      }
    }
    return "stays";
  }

  async function move({ message, acknowledgements, envelope }: Delivery, place: Place): Promise<Moved> {
    try {
      return await putAside(acknowledgements, readdressed(message, place.routingKey, place.headers), place);
    } catch (err) {
      const event = { queue, event_id: envelope.id, event_type: envelope.type, err };
      log.error("unmovable", event, "the event cannot be moved as it is: the broker makes it a dead letter (rejected)");
      return "unmovable";
    }
  }

  /** The message goes to its next place first, and is acknowledged then: a crash in between makes a copy, not a gap. */
  async function settleMoved(delivery: Delivery, disposition: Disposition, place: Place): Promise<void> {
    const { acknowledgements, message } = delivery;
    const outcome = await move(delivery, place);
    if (disposition.kind === "ignore" && outcome === "moved") onHandedOver();
    if (outcome === "moved" || outcome === "unroutable") acknowledgements.acknowledge(message.deliveryTag);
    // At a stop the end of the channel gives the message back.
    else if (outcome === "unmovable" || !closing.aborted) {
      acknowledgements.reject(message.deliveryTag, outcome === "stays");
    }
  }

  return (delivery, disposition) => {
    const place = placeOf(delivery, disposition);
    if (place !== undefined) return settleMoved(delivery, disposition, place);
    delivery.acknowledgements.acknowledge(delivery.message.deliveryTag);
  };
}

type Moved = "moved" | "unroutable" | "stays" | "unmovable";
