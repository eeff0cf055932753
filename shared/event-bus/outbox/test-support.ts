import type { TestContext } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { sql } from "kysely";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { type Database, type Migration, tableOf } from "#shared/database";
import { databaseForTest, pgbouncerForTest, postgresForTest, silent } from "#shared/testing";
import type { EventEnvelope } from "../envelope.ts";
import { outboxMigration } from "./migration.ts";
import { type AddOptions, createOutbox, type Outbox, type OutboxOptions } from "./outbox.ts";

export type OutboxDatabase = Database<Record<never, never>>;

/** Where the tests of an outbox run. The URL is undefined without a PostgreSQL; then the test is skipped. */
export const engines: Record<string, (t: TestContext) => Promise<{ url?: string } | undefined>> = {
  PGlite: async () => ({}),
  async PostgreSQL(t) {
    const url = await postgresForTest(t);
    return url === undefined ? undefined : { url };
  },
  async PgBouncer(t) {
    const pooler = await pgbouncerForTest(t);
    return pooler && { url: pooler.url };
  },
};

const migrationsOfTest = { "001_outbox": outboxMigration };

export async function openOn(
  engine: string,
  t: TestContext,
  migrations: Readonly<Record<string, Migration>> = migrationsOfTest,
): Promise<OutboxDatabase | undefined> {
  const where = await engines[engine]?.(t);
  return where && databaseForTest(t, { migrations, ...where });
}

/** A bus whose responses the test gives. */
export function scriptedBus(
  respond: (envelope: EventEnvelope, signal?: AbortSignal) => Promise<void> | void = () => {},
) {
  const sent: EventEnvelope[] = [];
  return {
    sent,
    names: () => sent.map(nameOf),
    async send(envelope: EventEnvelope, signal?: AbortSignal) {
      sent.push(envelope);
      await respond(envelope, signal);
    },
  };
}

export function nameOf({ body }: EventEnvelope): string {
  return fromBinary(GreetedSchema, body).name;
}

/** An outbox that stops after the test. */
export function outboxOn(
  t: TestContext,
  { db }: OutboxDatabase,
  bus: OutboxOptions["bus"],
  options: Partial<OutboxOptions> = {},
): Outbox {
  const config = { encoding: "protobuf" } as const;
  const outbox = createOutbox({ db, bus, config, source: "test", logger: silent, pollMs: 20, ...options });
  t.after(() => outbox.stop(AbortSignal.abort()));
  return outbox;
}

export function greet(outbox: Outbox, db: OutboxDatabase["db"], name: string, options: AddOptions = {}): Promise<void> {
  return outbox.add(db, GreetedSchema, { name, message: "" }, options);
}

export function isEmpty(outbox: Outbox): () => Promise<boolean> {
  return async () => (await outbox.state()).pending === 0;
}

/** Makes every failed event due, again and again until the test ends: the database's clock is not the test's. */
export function hurryRetries(t: TestContext, { db }: OutboxDatabase): void {
  const hurry = setInterval(() => {
    sql`update ${tableOf(db, "outbox_deferred")} set due = clock_timestamp() where state = 'failed' and due > clock_timestamp()`
      .execute(db)
      .catch(() => {});
  }, 25);
  t.after(() => clearInterval(hurry));
}
