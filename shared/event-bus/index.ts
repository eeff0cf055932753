export type {
  ConnectionState,
  ConsumeOptions,
  ConsumerCounts,
  ConsumerGuard,
  ConsumerState,
  EventBus,
  EventBusStates,
  EventConsumer,
  GuardedMessage,
  GuardResult,
  PublishOptions,
} from "./bus.ts";
export { type RabbitmqConfig, rabbitmqSection, usesBroker } from "./config.ts";
export { createEventBus, type EventBusOptions } from "./create-event-bus.ts";
export { type EventsPageOptions, eventsPage } from "./debug-page.ts";
export type { EventEnvelope } from "./envelope.ts";
export { RejectedEventError, TopologyError } from "./errors.ts";
export { type EventType, eventTypeOf } from "./event-type.ts";
export {
  type EventContext,
  type EventHandler,
  type EventHandlers,
  type PreparedHandler,
  withPrepare,
} from "./handler.ts";
export { createInProcessBroker, type InProcessBroker } from "./in-process/broker.ts";
export { createInbox, type Inbox, type InboxOptions } from "./inbox/inbox.ts";
export { inboxMigration, inboxRetireV1, inboxUpgrade } from "./inbox/migration.ts";
export { outboxMigration, outboxUpgrade } from "./outbox/migration.ts";
export type { OutboxEvent, OutboxListOptions, OutboxOperations, WholeOutboxEvent } from "./outbox/operations.ts";
export { type AddOptions, createOutbox, type Outbox, type OutboxOptions, type OutboxState } from "./outbox/outbox.ts";
export type { OutboxEventState } from "./outbox/rows.ts";

// @internal: what `#shared/events-cli` uses of this module. It may change in any version.

export { bindingKeysOf } from "./binding-keys.ts";
export { createDecoder, type Decode } from "./codec.ts";
export { busUnavailable } from "./errors.ts";
export { isEvent } from "./event-type.ts";
export { createOperations as createOutboxOperations } from "./outbox/operations.ts";
export { ATTRIBUTES, fromAmqp, HEADERS } from "./rabbitmq/amqp-message.ts";
export { createClient } from "./rabbitmq/client-workarounds.ts";
export { type BrokerConnection, codeOf } from "./rabbitmq/connection.ts";
export { deathsOf, originOf } from "./rabbitmq/origin.ts";
export { createPublisher } from "./rabbitmq/publisher.ts";
export { readdressed } from "./rabbitmq/readdressed.ts";
export { deadLetterQueueOf, type Topology, topologyOf } from "./rabbitmq/topology.ts";
