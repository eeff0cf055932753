import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import type { EventBus, EventConsumer } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { type ConsumerDefinition, defineConsumer } from "../consuming/definition.ts";
import { createEnvelope, type EventEnvelope } from "../envelope.ts";
import { busUnavailable, notConsumed } from "../errors.ts";
import { eventTypeOf } from "../event-type.ts";
import type { InProcessBroker } from "./broker.ts";
import { createInProcessConsumer, type InProcessConsumer } from "./consumer.ts";
import type { InProcessQueue } from "./queue.ts";

export interface InProcessBusOptions {
  readonly config: RabbitmqConfig;
  readonly source: string;
  readonly broker: InProcessBroker;
  readonly logger: Logger;
  readonly readiness: Readiness;
}

export function createInProcessBus(options: InProcessBusOptions): EventBus {
  const { config, source, broker, logger, readiness } = options;
  const component = readiness.component("event bus");
  const consumers = new Map<string, InProcessConsumer>();
  const closing = new AbortController();

  function route(envelope: EventEnvelope): readonly InProcessQueue[] {
    if (closing.signal.aborted) throw busUnavailable("the event bus is closed");
    return broker.route(config.exchange, envelope);
  }

  /** Resolves when the consumer of each queue has ended its first attempt. */
  async function attempt(envelope: EventEnvelope): Promise<void> {
    const queues = route(envelope);
    const unconsumed = queues.find(({ hasConsumer }) => !hasConsumer);
    if (unconsumed !== undefined) throw notConsumed(unconsumed.name);
    const attempts = queues.map((queue) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      queue.push({
        envelope,
        attempt: 1,
        postponed: 0,
        unknownRounds: 0,
        sender: { settle: resolve, giveUp: () => reject(notConsumed(queue.name)) },
      });
      return promise;
    });
    await Promise.all(attempts);
  }

  return {
    async start() {
      component.ready();
    },
    async publish(schema, message, { key } = {}) {
      const envelope = createEnvelope(eventTypeOf(schema), message, { key, source, encoding: config.encoding });
      for (const queue of route(envelope))
        queue.push({ envelope, attempt: 1, postponed: 0, unknownRounds: 0, sender: undefined });
    },
    async send(envelope, signal) {
      signal?.throwIfAborted();
      await orAborted(attempt(envelope), [closing.signal, ...(signal === undefined ? [] : [signal])]);
    },
    consume(consumeOptions): EventConsumer {
      const definition: ConsumerDefinition = defineConsumer(consumeOptions, config);
      if (consumers.has(definition.queue)) throw new Error(`the queue ${definition.queue} has a consumer already`);
      const consumer = createInProcessConsumer({ definition, config, broker, logger });
      consumers.set(definition.queue, consumer);
      return consumer;
    },
    states: () => ({
      kind: "in-process",
      connections: [],
      consumers: [...consumers.values()].map((consumer) => consumer.state()),
      unconfirmed: 0,
    }),
    async close() {
      closing.abort(busUnavailable("the event bus is closed"));
      component.notReady("closed");
      await Promise.all([...consumers.values()].map((consumer) => consumer.close(AbortSignal.abort())));
    },
  };
}

async function orAborted(work: Promise<unknown>, signals: readonly AbortSignal[]): Promise<void> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const signal = AbortSignal.any([...signals]);
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
