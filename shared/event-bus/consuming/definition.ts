import { randomUUID } from "node:crypto";
import type { DescMessage } from "@bufbuild/protobuf";
import { bindingKeysOf } from "../binding-keys.ts";
import type { ConsumeOptions, ConsumerGuard } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { eventTypeOf } from "../event-type.ts";
import { createDecide, type Decide } from "./disposition.ts";
import { type AnyHandler, createHandling, type Handling, unguarded } from "./handling.ts";

/** A consumer's options with every default filled in, the same for both buses. */
export interface ConsumerDefinition {
  readonly queue: string;
  /** Bindings of the queue. */
  readonly bindingKeys: readonly string[];
  /** Delays before the second, third … attempt. Empty: a message is tried once. */
  readonly retryDelaysMs: readonly number[];
  readonly ephemeral: boolean;
  readonly guard: ConsumerGuard<object>;
  readonly handling: Handling;
  readonly decide: Decide;
  /** Types that it handles, as messages name them. */
  readonly typeNames: readonly string[];
}

/**
 * @throws TypeError when an event is not declared as one or has no handler, or an ephemeral queue has a guard; RangeError
 *   when `handler_timeout` or `concurrency` exceeds what the guard allows
 */
export function defineConsumer<Events extends readonly DescMessage[], Extra extends object>(
  options: ConsumeOptions<Events, Extra>,
  config: RabbitmqConfig,
): ConsumerDefinition {
  const { events, ephemeral = false } = options;
  const base = options.queue ?? config.queue;
  const queue = ephemeral ? `${base}.${randomUUID()}` : base;
  const guard = (options.guard ?? unguarded) as ConsumerGuard<object>;
  if (ephemeral && options.guard !== undefined) {
    // An ephemeral queue has a new name in each process: the guard would never know an event again, and its table would grow.
    throw new TypeError(`the consumer of ${base} is ephemeral, and cannot have a guard`);
  }
  if (config.handlerTimeoutMs > (guard.maxHandlerMs ?? Number.POSITIVE_INFINITY)) {
    throw new RangeError(
      `rabbitmq.handler_timeout is ${config.handlerTimeoutMs} ms, and the inbox allows ${guard.maxHandlerMs} ms: ` +
        "the database would end the handler's transaction first (database.idle_in_transaction_timeout)",
    );
  }
  if (config.concurrency > (guard.maxConcurrency ?? Number.POSITIVE_INFINITY)) {
    throw new RangeError(
      `rabbitmq.concurrency is ${config.concurrency}, and the inbox allows ${guard.maxConcurrency}: ` +
        "each handler has a connection of its own (database.pool_size)",
    );
  }
  const retryDelaysMs = ephemeral ? [] : config.retry.delaysMs;
  const types = events.map((schema) => eventTypeOf(schema));
  // The configured key is for the configured queue: another queue gets what it has handlers for.
  const pattern = queue === config.queue ? config.routingKey : "";
  return {
    queue,
    bindingKeys: bindingKeysOf(pattern, events, config),
    retryDelaysMs,
    ephemeral,
    guard,
    typeNames: types.flatMap(({ name, jsonType }) => (jsonType === undefined ? [name] : [name, jsonType])),
    handling: createHandling({
      queue,
      events,
      // Each handler gets the event of its own schema: the keys say which.
      handlers: options.handlers as unknown as Readonly<Record<string, AnyHandler>>,
      guard,
      handlerTimeoutMs: config.handlerTimeoutMs,
    }),
    decide: createDecide({
      delaysMs: retryDelaysMs,
      peerOutageMs: config.retry.peerOutageMs,
      // An ephemeral queue keeps no dead letters, and has no other version.
      ignoreUnknown: config.ignoreUnknown || ephemeral,
      handledRoutingKeys: new Set(types.map(({ routingKey }) => routingKey)),
    }),
  };
}
