import { sql } from "kysely";
import type { Migration } from "#shared/database";
import { inboxMigration, inboxUpgrade, outboxMigration, outboxUpgrade } from "#shared/event-bus";

/** Name of the schema that has the tables. */
export const schema = "users";

export const migrations: Readonly<Record<string, Migration>> = {
  "001_users": {
    async up(db) {
      await db.schema
        .createTable("users")
        .addColumn("id", "uuid", (column) => column.primaryKey())
        .addColumn("username", "text", (column) => column.notNull())
        .addColumn("email", "text", (column) => column.notNull())
        .addColumn("request_id", "uuid")
        .addColumn("created_at", "timestamptz(3)", (column) => column.notNull())
        .addColumn("updated_at", "timestamptz(3)", (column) => column.notNull())
        .addUniqueConstraint("users_request_id_key", ["request_id"])
        .execute();
      await db.schema.createIndex("users_email_key").unique().on("users").expression(sql`lower(email)`).execute();
    },
  },
  "002_outbox": outboxMigration,
  "003_inbox": inboxMigration,
  "004_greetings": {
    async up(db) {
      await db.schema
        .createTable("greetings")
        .addColumn("name", "text", (column) => column.primaryKey())
        .addColumn("count", "int8", (column) => column.notNull())
        .execute();
    },
  },
  "005_inbox_upgrade": inboxUpgrade,
  "006_outbox_upgrade": outboxUpgrade,
  "007_username_idx": {
    async up(db) {
      await db.schema.createIndex("users_username_idx").on("users").column("username").execute();
    },
  },
};
