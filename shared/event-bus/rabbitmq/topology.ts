import type { Channel } from "rabbitmq-client";
import { describeError } from "#shared/errors";
import { bounded } from "#shared/timing";
import type { RabbitmqConfig } from "../config.ts";
import type { ConsumerDefinition } from "../consuming/definition.ts";
import { busUnavailable, TopologyError } from "../errors.ts";
import { codeOf } from "./connection.ts";

type ExchangeDeclare = NonNullable<Parameters<Channel["exchangeDeclare"]>[0]>;
type QueueDeclare = Exclude<Parameters<Channel["queueDeclare"]>[0], string | undefined>;
type QueueArguments = NonNullable<QueueDeclare["arguments"]>;
type QueueBind = Parameters<Channel["queueBind"]>[0];

/** The exchange, queues and bindings of a consumer, as AMQP's declarations. */
export interface Topology {
  readonly exchange: ExchangeDeclare;
  readonly queues: readonly QueueDeclare[];
  readonly bindings: readonly QueueBind[];
}

/** Time after which the broker deletes a work queue without consumers. Its retries and dead letters stay. */
const EXPIRES_MS = { transient: 30 * 60_000, autoDelete: 60_000 } as const;
/** Listing dead letters counts as a delivery, and RabbitMQ 4 drops messages after 20 deliveries by default. */
const DEAD_LETTERS_DELIVERY_LIMIT = 1_000_000_000;

export function exchangeOf(config: RabbitmqConfig): ExchangeDeclare {
  const { exchange, exchangeType: type, durable, autoDelete } = config;
  return { exchange, type, durable, autoDelete };
}

/** Names the queue where messages wait for their next attempt: one for each delay, since only the head of a queue expires. */
export function retryQueueOf(queue: string, delayMs: number): string {
  return `${queue}.retry.${durationText(delayMs)}`;
}

export function deadLetterQueueOf(queue: string): string {
  return `${queue}.dead`;
}

/**
 * Derives a consumer's topology. All queues are quorum queues: replicated on a cluster, and faster for confirmed messages on
 * a single node too. The broker dead-letters from the work queue what it has delivered too often, and from a retry queue,
 * to the work queue, what has waited long enough. Both are at least once, which needs `reject-publish`.
 */
export function topologyOf(
  definition: Pick<ConsumerDefinition, "queue" | "bindingKeys" | "retryDelaysMs">,
  config: RabbitmqConfig,
): Topology {
  const { queue, bindingKeys, retryDelaysMs } = definition;
  const expires = config.autoDelete ? EXPIRES_MS.autoDelete : config.durable ? undefined : EXPIRES_MS.transient;
  const common: QueueArguments = { "x-queue-type": "quorum" };
  const deadLettering: QueueArguments = {
    "x-dead-letter-exchange": "",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
  };
  const work: QueueArguments = {
    ...common,
    ...deadLettering,
    "x-dead-letter-routing-key": deadLetterQueueOf(queue),
    "x-delivery-limit": config.deliveryLimit,
    ...(expires !== undefined && { "x-expires": expires }),
    ...(config.maxLength > 0 && { "x-max-length": config.maxLength }),
    ...(config.singleActiveConsumer && { "x-single-active-consumer": true }),
  };
  const dead: QueueArguments = { ...common, "x-delivery-limit": DEAD_LETTERS_DELIVERY_LIMIT };
  const rungs = [...new Set(retryDelaysMs)].map((delayMs) => ({
    queue: retryQueueOf(queue, delayMs),
    durable: true,
    arguments: { ...common, ...deadLettering, "x-dead-letter-routing-key": queue, "x-message-ttl": delayMs },
  }));
  return {
    exchange: exchangeOf(config),
    queues: [
      { queue: deadLetterQueueOf(queue), durable: true, arguments: dead },
      { queue, durable: true, arguments: work },
      ...rungs,
    ],
    bindings: bindingKeys.map((routingKey) => ({ queue, exchange: config.exchange, routingKey })),
  };
}

/** Derives the topology of a queue that belongs to one connection and is deleted with it. */
export function ephemeralTopologyOf(queue: string, bindingKeys: readonly string[], config: RabbitmqConfig): Topology {
  return {
    exchange: exchangeOf(config),
    queues: [{ queue, exclusive: true, autoDelete: true, durable: false }],
    bindings: bindingKeys.map((routingKey) => ({ queue, exchange: config.exchange, routingKey })),
  };
}

/**
 * Declares a topology on a channel of its own.
 *
 * @throws TopologyError when the broker has another declaration of one of the names; DomainError EVENT_BUS_UNAVAILABLE
 */
export async function declare(
  open: () => Promise<Channel>,
  { exchange, queues, bindings }: Topology,
  timeoutMs: number,
): Promise<void> {
  const channel = await open();
  const work = (async () => {
    await channel.exchangeDeclare(exchange);
    for (const queue of queues) await channel.queueDeclare(queue);
    for (const binding of bindings) await channel.queueBind(binding);
  })();
  const outcome = await bounded(work, timeoutMs);
  await bounded(channel.close(), timeoutMs);
  if (outcome.kind === "overran") throw busUnavailable("the broker does not answer a declaration");
  if (outcome.kind === "failed") throw declarationError(outcome.cause);
}

/** The error of a declaration that the broker refused, with the broker's words. */
export function declarationError(cause: unknown): Error {
  const said = describeError(cause);
  if (codeOf(cause) !== "PRECONDITION_FAILED")
    return busUnavailable(`the broker refused a declaration: ${said}`, cause);
  return new TopologyError(`the broker has another declaration than the configuration: ${said}`, { cause });
}

/** Formats a duration for a queue's name: `1s`, `250ms`, `2m`. */
function durationText(ms: number): string {
  if (ms % 60_000 === 0 && ms > 0) return `${ms / 60_000}m`;
  return ms % 1_000 === 0 && ms > 0 ? `${ms / 1_000}s` : `${ms}ms`;
}
