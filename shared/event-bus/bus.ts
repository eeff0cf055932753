import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { EventEnvelope } from "./envelope.ts";
import type { EmptyContext, EventHandlers } from "./handler.ts";

/** Typed events between services: over RabbitMQ, or inside the process. */
export interface EventBus {
  /**
   * Connects, and declares exchange, queues and bindings. Returns when that is done or cannot be done yet: an unreachable
   * broker is tried again in the background, and the readiness component `event bus` has the reason.
   *
   * @throws TopologyError when the broker has an exchange or queues that differ from the configuration
   */
  start(signal?: AbortSignal): Promise<void>;
  /**
   * Publishes one event and waits until the broker has confirmed that it is stored in every queue that takes it. An event
   * that belongs to a change in the database goes through the outbox instead.
   *
   * @throws DomainError EVENT_BUS_UNAVAILABLE, EVENT_UNROUTABLE, EVENT_REFUSED, EVENT_TOO_LARGE, EVENT_NOT_CONFIRMED
   * @throws TypeError when the message is not declared as an event or breaks the rules of its proto; RangeError when it or its key is too large
   */
  publish<Schema extends DescMessage>(
    schema: Schema,
    message: MessageInitShape<Schema>,
    options?: PublishOptions,
  ): Promise<void>;
  /**
   * Publishes an event that was encoded before, as the relay of the outbox does. On the in-process bus it resolves when each
   * consumer has ended its first attempt, so that the outbox keeps the event until then.
   *
   * @throws DomainError like `publish`, and EVENT_NOT_CONSUMED on the in-process bus; the signal's reason
   */
  send(envelope: EventEnvelope, signal?: AbortSignal): Promise<void>;
  /**
   * Adds a consumer; it begins with its own `start`. Add all before the bus starts, so that their queues are there.
   *
   * @throws TypeError when an event is not declared as one; Error when the queue has a consumer already
   */
  consume<const Events extends readonly DescMessage[], Extra extends object = EmptyContext>(
    options: ConsumeOptions<Events, Extra>,
  ): EventConsumer;
  states(): EventBusStates;
  /** Waits for confirmations, then closes the connections, within 10 s in all. Close consumers first. */
  close(signal?: AbortSignal): Promise<void>;
}

export interface PublishOptions {
  /**
   * Events with the same key are relayed in their order, and handled in it within one process (over several replicas with
   * `single_active_consumer`); one that is tried again is overtaken. At most 255 characters. Default: no order.
   */
  readonly key?: string;
}

export interface ConsumeOptions<Events extends readonly DescMessage[], Extra extends object> {
  /** Default: the configuration's. */
  readonly queue?: string;
  /** The events that it handles; the queue is bound by their routing keys. */
  readonly events: Events;
  /** One for each event, by its full name: `"order.v1.OrderPlaced": async (placed, { signal }) => …`. */
  readonly handlers: EventHandlers<Events, Extra>;
  /** Makes an effect happen once: an inbox, whose transaction the handlers get. Default: none, so at least once. */
  readonly guard?: ConsumerGuard<Extra>;
  /**
   * true: a queue of this process alone, deleted with it. Each replica gets every event that is published while it is
   * connected. There are no retries, no dead letters and no guard. Default false.
   */
  readonly ephemeral?: boolean;
}

/**
 * Consumes one queue. When a handler returns, its message is acknowledged. When it throws, or outlives its deadline, it gets
 * the message again after each of the configured delays; after the last one the message becomes a dead letter. Messages
 * with the same key are handled one after the other, in this process.
 */
export interface EventConsumer {
  readonly queue: string;
  /** Begins to consume, now or when the broker is there. */
  start(): Promise<void>;
  /** Takes no more messages, and waits for handlers that run; what is waiting goes back to the queue. */
  close(signal?: AbortSignal): Promise<void>;
}

/** What identifies an event: source and id together (CloudEvents). */
export interface GuardedMessage {
  readonly id: string;
  readonly source: string;
}

/** Runs handlers in a way that makes their effect happen once. */
export interface ConsumerGuard<Extra extends object> {
  /** Maximum number of messages in one `run`. May change: it is read before each. */
  readonly batchSize: number;
  /** Maximum time of a handler under this guard, in milliseconds. A consumer with a longer `handler_timeout` is refused. */
  readonly maxHandlerMs?: number | undefined;
  /** Maximum number of `run`s at a time. A consumer with a higher `concurrency` is refused. */
  readonly maxConcurrency?: number | undefined;
  /** Resolves when what the guard needs can be used, such as its database. Rejects with the signal's reason. */
  ready(signal: AbortSignal): Promise<void>;
  /**
   * Calls `work` for each message, in their order. Gives one result for each message: from the first that is
   * `unavailable` on, all are, since a key's order would be lost. When it rejects, all are.
   */
  run<M extends GuardedMessage>(
    queue: string,
    messages: readonly M[],
    work: (message: M, extra: Extra) => Promise<void>,
  ): Promise<GuardResult[]>;
}

export type GuardResult =
  | { readonly kind: "done" }
  /** The event was handled before: the handler is not called. */
  | { readonly kind: "duplicate" }
  | { readonly kind: "failed"; readonly error: unknown }
  /** What the guard needs is away, and a probe has confirmed it: no attempt is spent. */
  | { readonly kind: "unavailable"; readonly error: unknown };

export interface EventBusStates {
  readonly kind: "rabbitmq" | "in-process";
  /** One for publishing and one for consuming; none in-process. */
  readonly connections: readonly ConnectionState[];
  readonly consumers: readonly ConsumerState[];
  /** Events that wait for their confirmation. */
  readonly unconfirmed: number;
}

export interface ConnectionState {
  readonly name: "publish" | "consume";
  /** `blocked`: the broker is short of memory or disk, and takes no messages. */
  readonly state: "connecting" | "connected" | "blocked" | "closed";
  /** The reason, when it is not connected. */
  readonly lastError?: string;
}

export interface ConsumerState {
  readonly queue: string;
  /** `waiting`: for what its guard needs, such as the database. */
  readonly state: "stopped" | "waiting" | "connecting" | "consuming" | "closed";
  /** Messages in memory, those that are being handled included. */
  readonly waiting: number;
  /** Since the start of the process. */
  readonly counts: ConsumerCounts;
}

export interface ConsumerCounts {
  readonly handled: number;
  /** Copies of events that were handled before. */
  readonly duplicates: number;
  /** Attempts that failed and were not the last. */
  readonly retried: number;
  /** Attempts that cost none of the configured ones: a peer's outage, or a type that another version handles. */
  readonly postponed: number;
  readonly deadLettered: number;
  /** Messages that failed in an ephemeral queue, which keeps no dead letters. */
  readonly dropped: number;
  /** Messages of an unknown type that were acknowledged, as `ignore_unknown` says. */
  readonly ignored: number;
  /** Messages that went back to the broker because of an outage. */
  readonly givenBack: number;
  /** Dead letters made by the broker although no handler failed on them, put back into the queue. */
  readonly putBack: number;
}
