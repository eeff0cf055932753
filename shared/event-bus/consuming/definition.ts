import { randomUUID } from "node:crypto";
import type { DescMessage } from "@bufbuild/protobuf";
import type { Logger } from "#shared/logging";
import { bindingKeysOf } from "../binding-keys.ts";
import type { ConsumeOptions, ConsumerGuard } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { type AnyHandler, createHandling, type Handling, unguarded } from "./handling.ts";

/** A consumer's options with every default filled in, the same for both buses. */
export interface ConsumerDefinition {
  readonly queue: string;
  /** What the queue is bound by. */
  readonly bindingKeys: readonly string[];
  /** Before the second, third … attempt. Empty: a message is tried once. */
  readonly retryDelaysMs: readonly number[];
  readonly ephemeral: boolean;
  readonly batchSize: number;
  readonly handling: Handling;
}

/** @throws TypeError when an event is not declared as one, or has no handler */
export function defineConsumer<Events extends readonly DescMessage[], Extra extends object>(
  options: ConsumeOptions<Events, Extra>,
  config: RabbitmqConfig,
  logger: Logger,
): ConsumerDefinition {
  const { events, ephemeral = false } = options;
  const base = options.queue ?? config.queue;
  const queue = ephemeral ? `${base}.${randomUUID()}` : base;
  const retryDelaysMs = ephemeral ? [] : config.retry.delaysMs;
  const guard = (options.guard ?? unguarded) as ConsumerGuard<object>;
  // The configured key is for the configured queue: another queue gets what it has handlers for.
  const pattern = queue === config.queue ? config.routingKey : "";
  return {
    queue,
    bindingKeys: bindingKeysOf(pattern, events, config),
    retryDelaysMs,
    ephemeral,
    batchSize: guard.batchSize,
    handling: createHandling({
      queue,
      events,
      // Each handler gets the event of its own schema: the keys say which.
      handlers: options.handlers as unknown as Readonly<Record<string, AnyHandler>>,
      guard,
      handlerTimeoutMs: config.handlerTimeoutMs,
      maxAttempts: retryDelaysMs.length + 1,
      logger,
    }),
  };
}
