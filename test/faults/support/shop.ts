import type { Transaction } from "kysely";
import { sql } from "kysely";
import { pino } from "pino";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { afterCommit, createDatabase, type Database, databaseSection, type Migration } from "#shared/database";
import {
  createEventBus,
  createInbox,
  createOutbox,
  type EventBus,
  type EventConsumer,
  type EventContext,
  type Inbox,
  inboxMigration,
  inboxUpgrade,
  type Outbox,
  type OutboxOptions,
  outboxMigration,
  outboxUpgrade,
  type RabbitmqConfig,
  rabbitmqSection,
} from "#shared/event-bus";
import { createReadiness, type Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";

/** What the shop has sold, and what came of it: the logs of both sides, each written in the transaction that it tells of. */
export interface Tables {
  /** One row for each event that was committed. */
  sales: { name: string };
  /** One row for each time that its effect has happened. */
  effects: { name: string; event_id: string; attempt: number; sequence: bigint };
}

const migrations: Record<string, Migration> = {
  "001_outbox": outboxMigration,
  "002_inbox": inboxMigration,
  "003_shop": {
    async up(db) {
      await sql`create table sales (name text primary key)`.execute(db);
      await sql`
        create table effects (
          sequence bigint generated always as identity primary key, name text not null, event_id text not null,
          attempt int4 not null
        )`.execute(db);
      await sql`create index effects_name_idx on effects (name)`.execute(db);
    },
  },
  "004_inbox_upgrade": inboxUpgrade,
  "005_outbox_upgrade": outboxUpgrade,
};

export interface ShopOptions {
  /** Of the `rabbitmq` section: url, exchange and queue at least. */
  readonly rabbitmq: Readonly<Record<string, unknown>>;
  /** Of the `database` section. */
  readonly database: Readonly<Record<string, unknown>>;
  readonly outbox?: Partial<OutboxOptions>;
  readonly log?: "warn" | "silent";
  /** Default: one to stdout, as `log` says. */
  readonly logger?: Logger;
  /** Called when a sale is committed, and nobody has nudged the relay. */
  readonly onCommitted?: () => void;
  /** Called when the broker has confirmed an event, and the outbox still has it. */
  readonly onConfirmed?: () => void;
}

export type Handle = (
  name: string,
  context: EventContext & { readonly tx: Transaction<Tables> },
) => Promise<void> | void;

/** A service that sells by name and delivers what was sold, once. Smaller than ours, and broken in every way. */
export interface Shop {
  readonly config: RabbitmqConfig;
  readonly database: Database<Tables>;
  readonly bus: EventBus;
  readonly outbox: Outbox;
  readonly inbox: Inbox<Tables>;
  readonly readiness: Readiness;
  /** A row and its event, in one transaction. */
  sell(name: string, key?: string): Promise<void>;
  /** Before `start`: delivers, after what the test wants to happen first. */
  deliver(handle?: Handle): EventConsumer;
  /** Database and bus. */
  start(): Promise<void>;
  /** As a service ends: consumers, relay, bus, database. */
  stop(): Promise<void>;
}

export function createShop(options: ShopOptions): Shop {
  const logger = options.logger ?? pino({ level: options.log ?? "silent" });
  const readiness = createReadiness();
  const config = rabbitmqSection.parse(options.rabbitmq);
  const database = createDatabase<Tables>({
    config: databaseSection.parse(options.database),
    schema: "shop",
    migrations,
    logger,
    readiness,
  });
  const { db } = database;
  const bus = createEventBus({ config, source: "shop", logger, readiness });
  const confirming: Pick<EventBus, "send"> = {
    async send(envelope, signal) {
      await bus.send(envelope, signal);
      options.onConfirmed?.();
    },
  };
  const outbox = createOutbox({ db, bus: confirming, config, source: "shop", logger, pollMs: 100, ...options.outbox });
  const inbox = createInbox({ db, logger });
  const consumers: EventConsumer[] = [];

  return {
    config,
    database,
    bus,
    outbox,
    inbox,
    readiness,
    async sell(name, key) {
      await db.transaction().execute(async (tx) => {
        await tx.insertInto("sales").values({ name }).execute();
        if (options.onCommitted !== undefined) await afterCommit(tx, options.onCommitted);
        await outbox.add(tx, GreetedSchema, { name, message: "" }, key === undefined ? {} : { key });
      });
    },
    deliver(handle = () => {}) {
      const consumer = bus.consume({
        events: [GreetedSchema],
        guard: inbox,
        handlers: {
          async "testing.v1.Greeted"({ name }, context) {
            await handle(name, context);
            const { id, attempt, tx } = context;
            // `sequence` is the database's.
            await sql`insert into effects (name, event_id, attempt) values (${name}, ${id}, ${attempt})`.execute(tx);
          },
        },
      });
      consumers.push(consumer);
      return consumer;
    },
    async start() {
      database.start();
      await bus.start();
      await database.ready(AbortSignal.timeout(30_000));
    },
    async stop() {
      await Promise.all(consumers.map((consumer) => consumer.close()));
      await outbox.stop();
      await bus.close();
      await database.close();
    },
  };
}
