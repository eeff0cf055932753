import type { Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import type { ConsumerState, EventConsumer } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import type { ConsumerDefinition } from "../consuming/definition.ts";
import type { Outcome } from "../consuming/handling.ts";
import { createPipeline, type Pipeline } from "../consuming/pipeline.ts";
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
  const { queue: name, retryDelaysMs, ephemeral } = definition;
  // It takes messages from now on, as a queue of RabbitMQ's does that is declared before it is consumed.
  const queue = broker.declare({
    name,
    exchange: config.exchange,
    exchangeType: config.exchangeType,
    bindingKeys: definition.bindingKeys,
    maxLength: config.maxLength,
  });
  let state: ConsumerState["state"] = "stopped";
  let disconnect: ((unbegun: readonly QueuedMessage[]) => void) | undefined;
  let closing: Promise<void> | undefined;

  function settle(message: QueuedMessage, outcome: Outcome): void {
    const { envelope, attempt, postponed } = message;
    if (outcome.kind === "retry") {
      queue.pushLater(
        { envelope, attempt: attempt + 1, postponed, sender: undefined },
        retryDelaysMs[attempt - 1] ?? 0,
      );
    } else if (outcome.kind === "dead" && !ephemeral) {
      queue.bury({ envelope, attempts: attempt, reason: outcome.reason, error: String(outcome.error) });
    }
    message.sender?.settle();
  }

  const pipeline: Pipeline<QueuedMessage> = createPipeline<QueuedMessage>({
    queue: name,
    handling: definition.handling,
    concurrency: config.concurrency,
    batchSize: definition.batchSize,
    settle,
    keepsDeadLetters: !ephemeral,
    onRoom: queue.pump,
    logger,
  });

  async function closeNow(signal: AbortSignal | undefined): Promise<void> {
    state = "closed";
    const { dropped, idle } = pipeline.drain();
    disconnect?.(dropped);
    void idle.then((unhandled) => disconnect?.(unhandled));
    const { kind } = await bounded(idle, config.handlerTimeoutMs, signal);
    if (kind === "overran") logger.warn({ queue: name }, "handlers are left behind");
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
        take: pipeline.push,
      });
    },
    close(signal) {
      closing ??= closeNow(signal);
      return closing;
    },
    state: () => ({ queue: name, state, waiting: pipeline.size, counts: { ...pipeline.counts } }),
  };
}
