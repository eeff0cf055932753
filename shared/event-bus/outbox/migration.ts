import { sql } from "kysely";
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
    // Few: those that failed, by which later ones of their key are held back.
    await sql`create index outbox_failed_idx on outbox (shard, key, id) where not_before is not null`.execute(db);
    // Rows come and go: without this, those that are gone would stay in the way for long.
    await sql`alter table outbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)`.execute(
      db,
    );
    await sql`
      create table outbox_shards (
        shard int2 primary key,
        lease uuid,
        lease_until timestamptz not null default '-infinity'
      )`.execute(db);
    await sql`insert into outbox_shards (shard) select generate_series(0, ${sql.lit(SHARDS - 1)})`.execute(db);
    // Or the planner takes it for a large table.
    await sql`analyze outbox_shards`.execute(db);
  },
};
