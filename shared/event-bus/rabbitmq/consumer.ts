import type { Channel } from "rabbitmq-client";
import { createLogThrottle, type Logger } from "#shared/logging";
import { bounded, createBackoff, sleep } from "#shared/timing";
import type { ConsumerState, EventConsumer } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import type { ConsumerDefinition } from "../consuming/definition.ts";
import type { Disposition } from "../consuming/disposition.ts";
import { createOutcomeLog } from "../consuming/outcome-log.ts";
import { createPipeline, type Pipeline } from "../consuming/pipeline.ts";
import { TopologyError } from "../errors.ts";
import { type Acknowledgements, createAcknowledgements } from "./acknowledgements.ts";
import { fromAmqp } from "./amqp-message.ts";
import type { BrokerConnection } from "./connection.ts";
import { createConsumerTopology } from "./consumer-topology.ts";
import type { Publisher } from "./publisher.ts";
import { createSettler, type Delivery } from "./settle.ts";
import { createSuspects } from "./suspects.ts";
import { tendDeadLetters } from "./tend-dead-letters.ts";

export interface RabbitmqConsumer extends EventConsumer {
  state(): ConsumerState;
  /**
   * Declares the queue and what belongs to it; an ephemeral queue is declared when it is consumed, and only bound here.
   *
   * @throws TopologyError; DomainError EVENT_BUS_UNAVAILABLE
   */
  declare(): Promise<void>;
}

export interface RabbitmqConsumerOptions {
  readonly definition: ConsumerDefinition;
  readonly config: RabbitmqConfig;
  /** Undefined until the bus has started. */
  readonly links: () => { readonly connection: BrokerConnection; readonly publisher: Publisher } | undefined;
  readonly logger: Logger;
}

/** Maximum time that messages stay in memory during an outage: a short one is over before that. */
const MAX_HOLD_MS = 10_000;
/** Maximum time of the broker's part of a close. */
const BROKER_CLOSE_MS = 2_000;
/** A quorum queue may forget what is acknowledged right before its channel closes (rabbitmq-server, issue 10327). */
const LAST_ACKNOWLEDGEMENTS_MS = 100;

export function createRabbitmqConsumer(options: RabbitmqConsumerOptions): RabbitmqConsumer {
  const { definition, config, logger } = options;
  const { queue, ephemeral, guard } = definition;
  const { connectTimeoutMs, singleActiveConsumer } = config;
  const topology = createConsumerTopology(definition, config, () => linked().connection);
  const closing = new AbortController();
  const log = createLogThrottle(logger);
  const backoff = createBackoff({ initialMs: 100, maxMs: 5_000 });
  let state: ConsumerState["state"] = "stopped";
  let channel: Channel | undefined;
  let consumerTag: string | undefined;
  let acknowledgements: Acknowledgements | undefined;
  let givenBack = 0;
  let putBack = 0;
  let handedOver = 0;
  let recovering: Promise<boolean> | undefined;
  let running: Promise<void> | undefined;
  let closed: Promise<void> | undefined;

  const suspects = createSuspects({
    queue,
    deliveryLimit: config.deliveryLimit,
    timeoutMs: connectTimeoutMs,
    links: linked,
    log,
  });
  const pipeline: Pipeline<Delivery> = createPipeline<Delivery>({
    handling: definition.handling,
    decide: definition.decide,
    settle: createSettler({
      queue,
      keepsDeadLetters: !ephemeral,
      maxUnansweredMs: config.consumerTimeoutMs / 2,
      links: linked,
      declare: topology.repair,
      onHandedOver: () => handedOver++,
      closing: closing.signal,
      log,
    }),
    alone: { includes: ({ isSuspect }) => isSuspect, begin: judge, end: ({ message }) => suspects.end(message) },
    concurrency: config.concurrency,
    guard,
    recover() {
      recovering ??= recover().finally(() => {
        recovering = undefined;
      });
      return recovering;
    },
    keepsDeadLetters: !ephemeral,
    log: createOutcomeLog(queue, log, !ephemeral),
  });

  async function judge(delivery: Delivery): Promise<Disposition | undefined> {
    if (!(await suspects.begin(delivery.message))) return undefined;
    const error = new Error("the process ended each time that this message was handled");
    return { kind: "dead-letter", reason: "delivery_limit", error };
  }

  /** Consumes, and begins again whenever the channel is lost, the queue deleted or the messages given back. */
  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      try {
        state = "waiting";
        await guard.ready(closing.signal);
        state = "connecting";
        const { lost } = await open();
        backoff.reset();
        state = "consuming";
        if (!ephemeral) void tend(lost);
        await lost;
      } catch (err) {
        if (closing.signal.aborted) return;
        if (err instanceof TopologyError) log.error("declare", { queue, err }, "cannot consume: declared differently");
        else log.warn("consume", { queue, err }, "cannot consume yet");
        await sleep(backoff.next(), closing.signal);
      }
      channel = undefined;
      // What had not begun comes again on the next channel.
      pipeline.clear();
      suspects.forget();
    }
  }

  function tend(lost: Promise<void>): Promise<void> {
    const settings = { queue, timeoutMs: connectTimeoutMs, intervalMs: config.topologyCheckIntervalMs, links: linked };
    const ownCount = () => pipeline.counts.deadLettered;
    function onPutBack(count: number): void {
      putBack += count;
    }
    return tendDeadLetters({ ...settings, ownCount, onPutBack, lost, log });
  }

  /** @returns what resolves when the channel or the queue is gone */
  async function open(): Promise<{ readonly lost: Promise<void> }> {
    const { connection } = linked();
    await connection.ready(closing.signal);
    const name = await topology.declare();
    const opened = await connection.channel();
    if (closing.signal.aborted) void opened.close();
    closing.signal.throwIfAborted();
    channel = opened;
    const { promise: lost, resolve } = Promise.withResolvers<void>();
    opened.once("close", resolve);
    // The queue was deleted, and with it the messages that it had delivered.
    opened.once("basic.cancel", () => void opened.close());
    try {
      const outcome = await bounded(consume(opened, name), connectTimeoutMs);
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

  async function consume(from: Channel, name: string): Promise<void> {
    const answers = createAcknowledgements(from, linked().connection.writeTogether);
    acknowledgements = answers;
    await from.basicQos({ prefetchCount: config.prefetch });
    ({ consumerTag } = await from.basicConsume({ queue: name }, (message) => {
      answers.delivered(message.deliveryTag);
      // Prefetched messages may arrive until the broker has seen the cancellation.
      if (closing.signal.aborted || !from.active) return;
      const isSuspect = !ephemeral && suspects.isSuspect(message);
      pipeline.push({ ...fromAmqp(message), message, acknowledgements: answers, isSuspect });
    }));
  }

  /**
   * During an outage, messages go back to the broker: other replicas may handle them, and the broker does not find them
   * unanswered for too long.
   */
  async function recover(): Promise<boolean> {
    const holdMs = Math.min(MAX_HOLD_MS, config.consumerTimeoutMs / 2);
    const { kind } = await bounded(guard.ready(closing.signal), holdMs, closing.signal);
    if (kind === "done") return true;
    if (closing.signal.aborted) return false;
    if (channel?.active) givenBack += pipeline.size;
    acknowledgements?.flush();
    await channel?.close();
    return false;
  }

  function linked() {
    const both = options.links();
    if (both === undefined) throw new Error(`the consumer of ${queue} was started before its event bus`);
    return both;
  }

  async function closeNow(signal: AbortSignal | undefined): Promise<void> {
    closing.abort();
    const { idle } = pipeline.drain();
    // A single active consumer that is cancelled hands over at once: the next would get later messages while these run.
    if (channel?.active && consumerTag !== undefined && !singleActiveConsumer) {
      await bounded(channel.basicCancel({ consumerTag }), BROKER_CLOSE_MS, signal);
    }
    const { kind } = await bounded(idle, config.handlerTimeoutMs, signal);
    if (kind === "overran" && pipeline.size > 0) {
      logger.warn({ queue }, "closed while handlers are running: their messages come again");
    }
    acknowledgements?.flush();
    if (channel?.active && pipeline.counts.handled > 0) await sleep(LAST_ACKNOWLEDGEMENTS_MS);
    // The broker gives unanswered messages to another consumer.
    if (channel !== undefined) await bounded(channel.close(), BROKER_CLOSE_MS);
    // On a silent link the channel's close is never reported.
    if (running !== undefined) await bounded(running, BROKER_CLOSE_MS);
    log.flush();
    state = "closed";
  }

  return {
    queue,
    async declare() {
      if (!ephemeral || state === "consuming") await topology.repair();
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
    state() {
      const { ignored, postponed, ...others } = pipeline.counts;
      const counts = {
        ...others,
        ignored: ignored - handedOver,
        postponed: postponed + handedOver,
        givenBack,
        putBack,
      };
      return { queue, state, waiting: pipeline.size, counts };
    },
  };
}
