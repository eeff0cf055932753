import { setTimeout as delay } from "node:timers/promises";
import type { Channel } from "rabbitmq-client";
import type { Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import type { ConsumerState, EventConsumer } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import type { ConsumerDefinition } from "../consuming/definition.ts";
import { createPipeline, type Pipeline } from "../consuming/pipeline.ts";
import { TopologyError } from "../errors.ts";
import { fromAmqp } from "./amqp-message.ts";
import type { BrokerConnection } from "./connection.ts";
import type { Publisher } from "./publisher.ts";
import { retryDelay } from "./retry-delay.ts";
import { createSettler, type Delivery } from "./settle.ts";
import { handleSuspects } from "./suspects.ts";
import { declare, ephemeralTopologyOf, topologyOf } from "./topology.ts";

export interface RabbitmqConsumer extends EventConsumer {
  state(): ConsumerState;
  /** Makes the queue and what belongs to it; an ephemeral one is made when it is consumed. @throws TopologyError; DomainError EVENT_BUS_UNAVAILABLE */
  declare(): Promise<void>;
}

export interface RabbitmqConsumerOptions {
  readonly definition: ConsumerDefinition;
  readonly config: RabbitmqConfig;
  /** Undefined until the bus has started. */
  readonly links: () => { readonly connection: BrokerConnection; readonly publisher: Publisher } | undefined;
  readonly logger: Logger;
}

/** For the broker's part in a close. */
const FAREWELL_MS = 2_000;
const LAST_ANSWERS_MS = 100;

export function createRabbitmqConsumer(options: RabbitmqConsumerOptions): RabbitmqConsumer {
  const { definition, config, links, logger } = options;
  const { queue, ephemeral, retryDelaysMs } = definition;
  const closing = new AbortController();
  let state: ConsumerState["state"] = "stopped";
  let channel: Channel | undefined;
  let consumerTag: string | undefined;
  /** An ephemeral queue has another name each time: the broker may not know yet that the last connection is gone. */
  let generation = 0;
  let running: Promise<void> | undefined;
  let closed: Promise<void> | undefined;

  const pipeline: Pipeline<Delivery> = createPipeline<Delivery>({
    queue,
    handling: definition.handling,
    concurrency: config.concurrency,
    batchSize: definition.batchSize,
    keepsDeadLetters: !ephemeral,
    settle: createSettler({
      queue,
      retryDelaysMs,
      keepsDeadLetters: !ephemeral,
      links: linked,
      declare: declareDurable,
      closing: closing.signal,
      logger,
    }),
    logger,
  });

  /** Consumes, and begins anew whenever the channel is lost or the queue deleted. */
  async function run(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; ) {
      try {
        const { lost } = await open();
        failures = 0;
        state = "consuming";
        logger.debug({ queue }, "consuming");
        await lost;
      } catch (err) {
        if (closing.signal.aborted) return;
        if (err instanceof TopologyError) logger.error({ queue, err }, "cannot consume");
        else logger.warn({ queue, err }, "cannot consume for now");
        await delay(retryDelay(failures++), undefined, { signal: closing.signal }).catch(() => {});
      }
      state = "connecting";
      channel = undefined;
      // What was not begun comes again on the next channel.
      pipeline.clear();
    }
  }

  /** @returns what resolves when the channel or the queue is gone */
  async function open(): Promise<{ readonly lost: Promise<void> }> {
    const { connection } = linked();
    await connection.ready(closing.signal);
    const name = ephemeral ? await declareEphemeral() : await declareDurable();
    const opened = await connection.channel();
    if (closing.signal.aborted) void opened.close();
    closing.signal.throwIfAborted();
    channel = opened;
    const { promise: lost, resolve } = Promise.withResolvers<void>();
    opened.once("close", resolve);
    // The queue was deleted, and what it had delivered with it.
    opened.once("basic.cancel", () => void opened.close());
    try {
      await takeSuspects(opened, lost);
      const outcome = await bounded(consume(opened, name), config.connectTimeoutMs);
      if (outcome.kind === "failed") throw outcome.cause;
      if (outcome.kind === "overran") throw new Error("the broker does not answer");
      // A close has looked for a channel to close, and there was none.
      closing.signal.throwIfAborted();
      return { lost };
    } catch (error) {
      void opened.close();
      throw error;
    }
  }

  async function takeSuspects(from: Channel, lost: Promise<void>): Promise<void> {
    // An ephemeral queue has none, and a queue of a single active consumer lets nobody get.
    if (ephemeral || config.singleActiveConsumer) return;
    await handleSuspects({
      channel: from,
      queue,
      deliveryLimit: config.deliveryLimit,
      timeoutMs: config.connectTimeoutMs,
      signal: closing.signal,
      async handle(message) {
        state = "consuming";
        const { promise: settled, resolve } = Promise.withResolvers<void>();
        pipeline.push({ ...fromAmqp(message), message, channel: from, onSettled: resolve });
        await Promise.race([settled, lost]);
      },
    });
  }

  async function consume(from: Channel, name: string): Promise<void> {
    await from.basicQos({ prefetchCount: config.prefetch });
    ({ consumerTag } = await from.basicConsume({ queue: name }, (message) => {
      // Prefetched messages may arrive until the broker has seen the cancellation.
      if (closing.signal.aborted || !from.active) return;
      pipeline.push({ ...fromAmqp(message), message, channel: from });
    }));
  }

  function linked() {
    const both = links();
    if (both === undefined) throw new Error(`the consumer of ${queue} was started before its event bus`);
    return both;
  }

  async function declareDurable(): Promise<string> {
    await declare(linked().connection.channel, topologyOf(definition, config), config.connectTimeoutMs);
    return queue;
  }

  async function declareEphemeral(): Promise<string> {
    const name = `${queue}.${++generation}`;
    const topology = ephemeralTopologyOf(name, definition.bindingKeys, config);
    await declare(linked().connection.channel, topology, config.connectTimeoutMs);
    return name;
  }

  async function closeNow(signal: AbortSignal | undefined): Promise<void> {
    closing.abort();
    const { idle } = pipeline.drain();
    // One that is cancelled hands over at once: the next would get later messages while these are still in hand here.
    if (channel?.active && consumerTag !== undefined && !config.singleActiveConsumer) {
      await bounded(channel.basicCancel({ consumerTag }), FAREWELL_MS, signal);
    }
    const { kind } = await bounded(idle, config.handlerTimeoutMs, signal);
    if (kind === "overran") logger.warn({ queue }, "handlers are left behind: their messages come again");
    // A quorum queue may forget what was acknowledged right before its channel closes (rabbitmq-server, issue 10327).
    if (channel?.active && pipeline.counts.handled > 0) await delay(LAST_ANSWERS_MS);
    // The broker gives what is unanswered to another consumer.
    if (channel !== undefined) await bounded(channel.close(), FAREWELL_MS);
    // On a link that is silent nobody says that the channel is closed.
    if (running !== undefined) await bounded(running, FAREWELL_MS);
    state = "closed";
  }

  return {
    queue,
    async declare() {
      if (!ephemeral) await declareDurable();
    },
    async start() {
      linked();
      if (state !== "stopped" || closing.signal.aborted) return;
      state = "connecting";
      running = run();
    },
    close(signal) {
      closed ??= closeNow(signal);
      return closed;
    },
    state: () => ({ queue, state, waiting: pipeline.size, counts: { ...pipeline.counts } }),
  };
}
