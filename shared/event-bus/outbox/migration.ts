import { type Kysely, sql } from "kysely";
import type { Migration } from "#shared/database";
import { SHARDS } from "./shard.ts";

/** The tables of the outbox, for a service's own migrations: `"002_outbox": outboxMigration`. */
export const outboxMigration: Migration = {
  async up(db) {
    await sql`
      create table outbox (
        id bigint generated always as identity primary key,
        shard int2 not null,
        key text not null,
        event_id uuid not null,
        type text not null,
        source text not null,
        time timestamptz(3) not null,
        routing_key text not null,
        must_be_routed bool not null,
        content_type text not null,
        body bytea not null,
        context text not null,
        attempts int4 not null default 0,
        not_before timestamptz,
        last_error text
      )`.execute(db);
    await sql`create index outbox_shard_id_idx on outbox (shard, id)`.execute(db);
    // Used by the version before outbox_deferred, and for the rows that it leaves behind.
    await sql`create index outbox_failed_idx on outbox (shard, key, id) where not_before is not null`.execute(db);
    await vacuumOften(db, "outbox");
    await sql`
      create table outbox_shards (
        shard int2 primary key,
        lease uuid,
        lease_until timestamptz not null default '-infinity'
      )`.execute(db);
    await sql`insert into outbox_shards (shard) select generate_series(0, ${sql.lit(SHARDS - 1)})`.execute(db);
    await addDeferred(db);
    // Without statistics the planner takes it for a large table.
    await sql`analyze outbox_shards`.execute(db);
  },
};

/**
 * Brings tables that an earlier version of `outboxMigration` made to today's state, in a migration after it; does nothing
 * on new tables. Old replicas go on working on the tables beside new ones.
 */
export const outboxUpgrade: Migration = { up: addDeferred };

async function addDeferred(db: Kysely<unknown>): Promise<void> {
  // No event with a lower id is left in the shard.
  await sql`alter table outbox_shards add column if not exists first_id bigint not null default 0`.execute(db);
  // The sequence is shared, so that an event keeps its id when it is moved here.
  await sql`
    create table if not exists outbox_deferred (
      id bigint primary key default nextval('outbox_id_seq'),
      shard int2 not null,
      key text not null,
      event_id uuid not null,
      type text not null,
      source text not null,
      time timestamptz(3) not null,
      routing_key text not null,
      must_be_routed bool not null,
      content_type text not null,
      body bytea not null,
      context text not null,
      attempts int4 not null default 0,
      state text not null constraint outbox_deferred_state_check
        check (state in ('delayed', 'failed', 'behind', 'parked')),
      due timestamptz constraint outbox_deferred_due_check check ((due is not null) = (state in ('delayed', 'failed'))),
      last_error text
    )`.execute(db);
  await sql`
    create index if not exists outbox_deferred_due_idx on outbox_deferred (shard, due) where due is not null`.execute(
    db,
  );
  // One row for each halted key. A hash index finds one in as many pages as among 100,000.
  await sql`
    create index if not exists outbox_deferred_halted_idx on outbox_deferred using hash (key)
    where state = 'failed' and key <> ''`.execute(db);
  await sql`
    create index if not exists outbox_deferred_behind_idx on outbox_deferred (key, id) where state = 'behind'`.execute(
    db,
  );
  // For lists and counts of one state.
  await sql`create index if not exists outbox_deferred_state_idx on outbox_deferred (state, id)`.execute(db);
  await vacuumOften(db, "outbox_deferred");
}

/** Rows come and go: dead ones are to be removed long before the default fifth of the table is dead. */
async function vacuumOften(db: Kysely<unknown>, table: string): Promise<void> {
  await sql`
    alter table ${sql.id(table)}
    set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)`.execute(db);
}
