import { sql } from "kysely";
import type { Migration } from "#shared/database";

/** The table of the inbox, for a service's own migrations: `"003_inbox": inboxMigration`. */
export const inboxMigration: Migration = {
  async up(db) {
    await sql`
      create table inbox (
        queue text not null,
        event_id text not null,
        handled_at timestamptz not null default now(),
        primary key (queue, event_id)
      )`.execute(db);
    await sql`create index inbox_handled_at_idx on inbox (handled_at)`.execute(db);
  },
};
