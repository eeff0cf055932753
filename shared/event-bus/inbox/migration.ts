import { type Kysely, sql } from "kysely";
import { type Migration, tableOf } from "#shared/database";
import { partitionName } from "./partitions.ts";
import { dropV1, hasV1 } from "./v1.ts";

/** Tables of the inbox, for a service's own migrations: `"003_inbox": inboxMigration`. */
export const inboxMigration: Migration = { up: createTables };

/**
 * Brings the tables of the first version, with one table `inbox`, to the present state; does nothing to present ones. Replicas
 * of the first version may run beside this one: the table stays, and both versions use it until `inboxRetireV1`.
 */
export const inboxUpgrade: Migration = {
  async up(db) {
    await createTables(db);
    if (!(await hasV1(db))) return;
    // A column of `inbox` would need a lock on that table, which transactions of running handlers hold.
    await sql`
      create table if not exists ${tableOf(db, "inbox_v1_known")} (
        queue text not null,
        event_id text not null,
        primary key (queue, event_id)
      )`.execute(db);
  },
};

/**
 * Drops the table of the first version and `inbox_v1_known`. For the release after the one that brought `inboxUpgrade`, once that has run for as
 * long as the inbox's window: what replicas of the first version have handled is forgotten. Does not wait for transactions
 * of running replicas: while one uses the tables, replicas stop using them, and drop them later in the background.
 */
export const inboxRetireV1: Migration = {
  async up(db) {
    await sql`update ${tableOf(db, "inbox_partitions")} set v1_retired = true`.execute(db);
    await dropV1(db);
  },
};

async function createTables(db: Kysely<unknown>): Promise<void> {
  const events = tableOf(db, "inbox_events");
  const partitions = tableOf(db, "inbox_partitions");
  // Stays empty: queries of operators and the list of partitions go through it.
  await sql`create table if not exists ${events} (key uuid not null)`.execute(db);
  await sql`
    create table if not exists ${tableOf(db, partitionName(1))} (primary key (key)) inherits (${events})`.execute(db);
  await sql`
    create table if not exists ${partitions} (
      only_row bool primary key default true check (only_row),
      first int4 not null,
      last int4 not null,
      overlapping bool not null,
      opened_at timestamptz[] not null,
      v1_retired bool not null default false
    )`.execute(db);
  await sql`
    insert into ${partitions} (first, last, overlapping, opened_at) values (1, 1, false, array[now()])
    on conflict do nothing`.execute(db);
}
