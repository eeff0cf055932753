export { type Broker, openBroker } from "./admin/broker.ts";
export type { Catalogue, CatalogueEvent, CatalogueField, CataloguePackage, CatalogueType } from "./admin/catalogue.ts";
export { type CommandResult, runEventsCommand } from "./admin/command.ts";
export type { DeadLetter } from "./admin/dead-letter.ts";
export {
  type DeadLetterList,
  type DeadLettersMoved,
  type DeadLettersOptions,
  dropDeadLetters,
  listDeadLetters,
  redriveDeadLetters,
  showDeadLetter,
} from "./admin/dead-letters.ts";
export type { EventsService, EventsSetup } from "./admin/setup.ts";
export type { WholeDeadLetter } from "./admin/whole-dead-letter.ts";
export type {
  ConnectionState,
  ConsumeOptions,
  ConsumerCounts,
  ConsumerGuard,
  ConsumerState,
  EventBus,
  EventBusStates,
  EventConsumer,
  EventContext,
  EventHandler,
  EventHandlers,
  GuardResult,
  PublishOptions,
} from "./bus.ts";
export { type RabbitmqConfig, rabbitmqSection, usesBroker } from "./config.ts";
export { createEventBus, type EventBusOptions } from "./create-event-bus.ts";
export type { EventEnvelope } from "./envelope.ts";
export { RejectedEventError, TopologyError } from "./errors.ts";
export { type EventType, eventTypeOf } from "./event-type.ts";
export { createInProcessBroker, type InProcessBroker } from "./in-process/broker.ts";
export { createInbox, type Inbox, type InboxOptions } from "./inbox/inbox.ts";
export { inboxMigration } from "./inbox/migration.ts";
export { outboxMigration } from "./outbox/migration.ts";
export { createOutbox, type Outbox, type OutboxOptions, type OutboxState } from "./outbox/outbox.ts";
