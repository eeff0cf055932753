import { randomUUID } from "node:crypto";
import { type Kysely, sql, type Transaction } from "kysely";
import { pino } from "pino";
import { CountedSchema, GreetedSchema, RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createDatabase, databaseSection, type Migration } from "#shared/database";
import {
  createEventBus,
  createInbox,
  createOutbox,
  type EventConsumer,
  type EventContext,
  inboxMigration,
  outboxMigration,
  rabbitmqSection,
} from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";

/** The three events of each order: what a handler has done for it stands in `effects`, once. */
export type Effect = "reserved" | "confirmed" | "timed out";

export interface Tables {
  /** The name is `<key>-<number>`. */
  orders: { name: string; key: string; status: "pending" | "confirmed" | "cancelled" };
  effects: { sequence: bigint; name: string; effect: Effect; attempt: number };
}

export interface OrdersOptions {
  /** Of the `rabbitmq` section. */
  readonly rabbitmq: Readonly<Record<string, unknown>>;
  /** Of the `database` section. */
  readonly database: Readonly<Record<string, unknown>>;
  /** An order that is not confirmed by then is cancelled. */
  readonly timeoutMs: number;
  /** Whether the first attempt at every tenth event fails. */
  readonly failing: boolean;
  /** Whose handlers it has. Left out: it does not consume. */
  readonly version?: Version;
}

/** `first`: without handlers of what the second version has brought, the answer to a reservation and the timeout. */
export type Version = "first" | "second";

/**
 * A service whose orders settle by a chain of events: placed → reserved → confirmed, and by a delayed one that cancels
 * what is not confirmed in time. `Greeted` is the order's placement, `Registered` its reservation, `Counted` its timeout.
 */
export interface Orders {
  start(): Promise<void>;
  /** Places the order after the last one of the key. */
  place(key: string): Promise<void>;
  stop(): Promise<void>;
}

export const SCHEMA = "orders";

export const migrations: Record<string, Migration> = {
  "001_outbox": outboxMigration,
  "002_inbox": inboxMigration,
  "003_orders": {
    async up(db) {
      await sql`create table orders (name text primary key, key text not null, status text not null)`.execute(db);
      await sql`create index orders_key_idx on orders (key)`.execute(db);
      await sql`
        create table effects (
          sequence bigint generated always as identity primary key, name text not null, effect text not null,
          attempt int4 not null
        )`.execute(db);
    },
  },
};

export function createOrders(options: OrdersOptions): Orders {
  const { rabbitmq, timeoutMs, failing, version } = options;
  const logger = pino({ level: "warn" });
  const readiness = createReadiness();
  const config = rabbitmqSection.parse(rabbitmq);
  const database = createDatabase<Tables>({
    config: databaseSection.parse(options.database),
    schema: SCHEMA,
    migrations,
    logger,
    readiness,
  });
  const { db } = database;
  const bus = createEventBus({ config, source: "orders", logger, readiness });
  const outbox = createOutbox({ db, bus, config, source: "orders", logger, pollMs: 100, leaseMs: 1_000 });
  const inbox = createInbox<Tables>({ db, logger, config });
  async function record(effect: Effect, name: string, { tx, attempt }: Handling): Promise<void> {
    if (failing && attempt === 1 && name.endsWith("0")) throw new Error("the first attempt fails");
    await sql`insert into effects (name, effect, attempt) values (${name}, ${effect}, ${attempt})`.execute(tx);
  }
  async function onPlaced({ name }: { readonly name: string }, context: Handling): Promise<void> {
    await record("reserved", name, context);
    await outbox.add(context.tx, RegisteredSchema, { userId: randomUUID(), username: name }, { key: keyOf(name) });
  }
  async function onReserved({ username }: { readonly username: string }, context: Handling): Promise<void> {
    await record("confirmed", username, context);
    await settle(context.tx, username, "confirmed");
  }
  async function onTimeout({ shelves }: { readonly shelves: readonly { shelf: string }[] }, context: Handling) {
    const name = shelves[0]?.shelf ?? "";
    await record("timed out", name, context);
    await settle(context.tx, name, "cancelled");
  }

  const consumer = version === undefined ? undefined : consume(version);
  function consume(of: Version): EventConsumer {
    if (of === "first") {
      return bus.consume({ events: [GreetedSchema], guard: inbox, handlers: { "testing.v1.Greeted": onPlaced } });
    }
    return bus.consume({
      events: [GreetedSchema, RegisteredSchema, CountedSchema],
      guard: inbox,
      handlers: {
        "testing.v1.Greeted": onPlaced,
        "testing.v1.Registered": onReserved,
        "testing.v1.Counted": onTimeout,
      },
    });
  }

  return {
    async start() {
      database.start();
      await bus.start();
      await database.ready(AbortSignal.timeout(60_000));
      outbox.start();
      await consumer?.start();
    },
    async place(key) {
      await db.transaction().execute(async (tx) => {
        const { count } = await tx
          .selectFrom("orders")
          .select(({ fn }) => fn.countAll<bigint>().as("count"))
          .where("key", "=", key)
          .executeTakeFirstOrThrow();
        const name = `${key}-${count}`;
        await tx.insertInto("orders").values({ name, key, status: "pending" }).execute();
        await outbox.add(tx, GreetedSchema, { name, message: "" }, { key });
        const timeout = { itemId: randomUUID(), quantity: 1, shelves: [{ shelf: name }] };
        await outbox.add(tx, CountedSchema, timeout, { notBefore: new Date(Date.now() + timeoutMs) });
      });
    },
    async stop() {
      await consumer?.close();
      await outbox.stop();
      await bus.close();
      await database.close();
    },
  };
}

type Handling = EventContext & { readonly tx: Transaction<Tables> };

async function settle(tx: Kysely<Tables>, name: string, status: "confirmed" | "cancelled"): Promise<void> {
  await tx.updateTable("orders").set({ status }).where("name", "=", name).where("status", "=", "pending").execute();
}

function keyOf(name: string): string {
  return name.slice(0, name.lastIndexOf("-"));
}
