import { AsyncLocalStorage } from "node:async_hooks";
import { textOf } from "#shared/errors";
import { createLogThrottle, type Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import type { ConsumerState, EventConsumer } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import type { ConsumerDefinition } from "../consuming/definition.ts";
import type { Disposition } from "../consuming/disposition.ts";
import { createOutcomeLog } from "../consuming/outcome-log.ts";
import { createPipeline, type Pipeline } from "../consuming/pipeline.ts";
import { busUnavailable } from "../errors.ts";
import type { InProcessBroker } from "./broker.ts";
import type { QueuedMessage } from "./queue.ts";

export interface InProcessConsumer extends EventConsumer {
  state(): ConsumerState;
}

export interface InProcessConsumerOptions {
  readonly definition: ConsumerDefinition;
  readonly config: RabbitmqConfig;
  readonly broker: InProcessBroker;
  readonly logger: Logger;
}

export function createInProcessConsumer(options: InProcessConsumerOptions): InProcessConsumer {
  const { definition, config, broker, logger } = options;
  const { queue: name, ephemeral, guard } = definition;
  // The queue takes messages from now on, like a queue of RabbitMQ that is declared before it is consumed.
  const queue = broker.declare({
    name,
    exchange: config.exchange,
    exchangeType: config.exchangeType,
    bindingKeys: definition.bindingKeys,
    maxLength: config.maxLength,
  });
  let state: ConsumerState["state"] = "stopped";
  let disconnect: ((unbegun: readonly QueuedMessage[]) => void) | undefined;
  let closed: Promise<void> | undefined;
  const closing = new AbortController();
  const log = createLogThrottle(logger);
  /** Handlers are no part of the call or the transaction that has published their event. */
  const outside = AsyncLocalStorage.snapshot();

  function settle(message: QueuedMessage, disposition: Disposition): void {
    const { envelope, attempt, sender } = message;
    if (disposition.kind === "retry") {
      const { delayMs, attempt: next, postponed, unknownRounds } = disposition;
      queue.pushLater({ envelope, attempt: next, postponed, unknownRounds, sender: undefined }, delayMs);
    } else if (disposition.kind === "dead-letter" && !ephemeral) {
      queue.bury({ envelope, attempts: attempt, reason: disposition.reason, error: textOf(disposition.error) });
    }
    sender?.settle();
  }

  const pipeline: Pipeline<QueuedMessage> = createPipeline<QueuedMessage>({
    handling: definition.handling,
    decide: definition.decide,
    settle,
    concurrency: config.concurrency,
    guard,
    recover,
    keepsDeadLetters: !ephemeral,
    onRoom: queue.pump,
    log: createOutcomeLog(name, log, !ephemeral),
  });

  /** Messages stay in memory during an outage: no broker could keep them. */
  async function recover(): Promise<boolean> {
    await guard.ready(closing.signal).catch(() => {});
    return !closing.signal.aborted;
  }

  async function closeNow(signal: AbortSignal | undefined): Promise<void> {
    state = "closed";
    closing.abort(busUnavailable("the consumer is closed"));
    const { dropped, idle } = pipeline.drain();
    disconnect?.(dropped);
    void idle.then((unhandled) => disconnect?.(unhandled));
    const { kind } = await bounded(idle, config.handlerTimeoutMs, signal);
    if (kind === "overran" && pipeline.size > 0) logger.warn({ queue: name }, "closed while handlers are running");
    log.flush();
    if (ephemeral) broker.remove(name);
  }

  return {
    queue: name,
    async start() {
      if (state !== "stopped") return;
      state = "consuming";
      disconnect = queue.connect({
        get room() {
          return config.prefetch - pipeline.size;
        },
        take: (message) => outside(pipeline.push, message),
      });
    },
    close(signal) {
      closed ??= closeNow(signal);
      return closed;
    },
    state: () => ({
      queue: name,
      state,
      waiting: pipeline.size,
      counts: { ...pipeline.counts, givenBack: 0, putBack: 0 },
    }),
  };
}
