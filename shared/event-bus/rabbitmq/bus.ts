import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import type { EventBus, EventConsumer } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { defineConsumer } from "../consuming/definition.ts";
import { createEnvelope, type EventEnvelope } from "../envelope.ts";
import { busUnavailable, TopologyError } from "../errors.ts";
import { eventTypeOf } from "../event-type.ts";
import { toAmqp, toBody } from "./amqp-message.ts";
import { type BrokerConnection, openConnection } from "./connection.ts";
import { createRabbitmqConsumer, type RabbitmqConsumer } from "./consumer.ts";
import type { Publisher } from "./publisher.ts";
import { createSplitPublisher } from "./split-publisher.ts";
import { declare, exchangeOf } from "./topology.ts";
import { keepTopology } from "./topology-check.ts";

export interface RabbitmqBusOptions {
  readonly config: RabbitmqConfig;
  readonly source: string;
  readonly logger: Logger;
  readonly readiness: Readiness;
}

/**
 * A connection to publish and one to consume: the broker stops reading from publishers when it is short of memory
 * or disk, and consumers are what helps it then.
 */
interface Links {
  readonly publishing: BrokerConnection;
  readonly consuming: BrokerConnection;
  readonly publisher: Publisher;
}

/** Of a close, 10 s in all. */
const CONSUMERS_MS = 4_000;
const UNCONFIRMED_MS = 4_000;
const CLOSE_MS = 2_000;

export function createRabbitmqBus({ config, source, logger, readiness }: RabbitmqBusOptions): EventBus {
  const component = readiness.component("event bus");
  const consumers = new Map<string, RabbitmqConsumer>();
  const closing = new AbortController();
  let links: Links | undefined;
  let started: Promise<void> | undefined;
  let closed: Promise<void> | undefined;

  function connect(): Links {
    const publishing = openConnection({ name: "publish", config, source, logger });
    const publisher = createSplitPublisher({
      connection: publishing,
      prepare: (channel) => channel.exchangeDeclare(exchangeOf(config)),
      timeoutMs: config.publishTimeoutMs,
    });
    return { publishing, consuming: openConnection({ name: "consume", config, source, logger }), publisher };
  }

  /** Everything that is needed is there. */
  async function establish({ publishing, consuming }: Links): Promise<void> {
    await Promise.all([publishing.ready(closing.signal), consuming.ready(closing.signal)]);
    await declareExchange(consuming);
    const failures: unknown[] = [];
    for (const consumer of consumers.values()) {
      await consumer.declare().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  async function declareExchange(connection: BrokerConnection): Promise<void> {
    const topology = { exchange: exchangeOf(config), queues: [], bindings: [] };
    await declare(connection.channel, topology, config.connectTimeoutMs);
  }

  /** Goes on with what the start has begun. */
  function keep(opened: Links, isDeclared: boolean): void {
    if (closing.signal.aborted) return;
    if (isDeclared) component.ready();
    const { topologyCheckIntervalMs: intervalMs } = config;
    const declare = () => establish(opened);
    void keepTopology({ declare, intervalMs, isDeclared, component, logger, signal: closing.signal });
  }

  async function startNow(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    links = connect();
    const opened = links;
    const first = establish(opened);
    const outcome = await bounded(first, config.connectTimeoutMs, signal);
    if (outcome.kind === "done") return keep(opened, true);
    if (outcome.kind === "failed" && outcome.cause instanceof TopologyError) {
      closed ??= closeNow();
      await closed;
      throw outcome.cause;
    }
    component.notReady("connecting to RabbitMQ");
    logger.warn({ err: outcome.kind === "failed" ? outcome.cause : undefined }, "started without RabbitMQ");
    first.then(
      () => keep(opened, true),
      () => keep(opened, false),
    );
  }

  function send(envelope: EventEnvelope, signal?: AbortSignal): Promise<void> {
    if (links === undefined) return Promise.reject(busUnavailable("the event bus has not been started"));
    return links.publisher.send(toAmqp(config.exchange, envelope), toBody(envelope), signal);
  }

  async function closeNow(signal?: AbortSignal): Promise<void> {
    closing.abort(busUnavailable("the event bus is closed"));
    component.notReady("closed");
    const consuming = Promise.all([...consumers.values()].map((consumer) => consumer.close(AbortSignal.abort())));
    await bounded(consuming, CONSUMERS_MS, signal);
    if (links === undefined) return;
    await bounded(links.publisher.close(Math.min(config.publishTimeoutMs, UNCONFIRMED_MS)), UNCONFIRMED_MS, signal);
    const timeoutMs = signal?.aborted ? 0 : CLOSE_MS;
    await Promise.all([links.publishing.close(timeoutMs), links.consuming.close(timeoutMs)]);
  }

  return {
    start(signal) {
      started ??= startNow(signal);
      return started;
    },
    async publish(schema, message, { key } = {}) {
      await send(createEnvelope(eventTypeOf(schema), message, { key, source, encoding: config.encoding }));
    },
    send,
    consume(consumeOptions): EventConsumer {
      const definition = defineConsumer(consumeOptions, config);
      if (consumers.has(definition.queue)) throw new Error(`the queue ${definition.queue} has a consumer already`);
      const consumer = createRabbitmqConsumer({
        definition,
        config,
        links: () => links && { connection: links.consuming, publisher: links.publisher },
        logger,
      });
      consumers.set(definition.queue, consumer);
      return consumer;
    },
    states: () => ({
      kind: "rabbitmq",
      connections: links === undefined ? [] : [links.publishing.state(), links.consuming.state()],
      consumers: [...consumers.values()].map((consumer) => consumer.state()),
      unconfirmed: links?.publisher.unconfirmed ?? 0,
    }),
    close(signal) {
      closed ??= closeNow(signal);
      return closed;
    },
  };
}
