import { sql } from "kysely";
import type { Migration } from "#shared/database";
import { inboxMigration, inboxUpgrade, outboxMigration, outboxUpgrade } from "#shared/event-bus";

/** Name of the schema that has the tables. */
export const schema = "books";

export const migrations: Readonly<Record<string, Migration>> = {
  "001_books": {
    async up(db) {
      await db.schema
        .createTable("books")
        .addColumn("id", "uuid", (column) => column.primaryKey())
        .addColumn("title", "text", (column) => column.notNull())
        .addColumn("author", "text", (column) => column.notNull())
        .addColumn("price_cents", "int8", (column) => column.notNull())
        .addColumn("stock", "int4", (column) => column.notNull())
        .addColumn("initial_stock", "int4", (column) => column.notNull())
        .addColumn("request_id", "uuid", (column) => column.notNull())
        .addColumn("created_at", "timestamptz(3)", (column) => column.notNull())
        .addColumn("updated_at", "timestamptz(3)", (column) => column.notNull())
        .addUniqueConstraint("books_request_id_key", ["request_id"])
        .addCheckConstraint("books_stock_check", sql`stock >= 0`)
        .execute();
      await db.schema.createIndex("books_author_id_idx").on("books").columns(["author", "id"]).execute();
    },
  },
  "002_outbox": outboxMigration,
  "003_inbox": inboxMigration,
  "004_reservations": {
    async up(db) {
      await db.schema
        .createTable("reservations")
        .addColumn("order_id", "uuid", (column) => column.primaryKey())
        .addColumn("outcome", "text", (column) => column.notNull())
        .addColumn("book_id", "uuid")
        .addColumn("requested", "int4")
        .addColumn("available", "int4")
        .addColumn("created_at", "timestamptz(3)", (column) => column.notNull())
        .execute();
    },
  },
  "005_inbox_upgrade": inboxUpgrade,
  "006_outbox_upgrade": outboxUpgrade,
};
