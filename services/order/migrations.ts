import type { Migration } from "#shared/database";
import { inboxMigration, inboxUpgrade, outboxMigration, outboxUpgrade } from "#shared/event-bus";

/** Name of the schema that has the tables. */
export const schema = "orders";

export const migrations: Readonly<Record<string, Migration>> = {
  "001_orders": {
    async up(db) {
      await db.schema
        .createTable("orders")
        .addColumn("id", "uuid", (column) => column.primaryKey())
        .addColumn("user_id", "uuid", (column) => column.notNull())
        .addColumn("total_cents", "int8", (column) => column.notNull())
        .addColumn("status", "text", (column) => column.notNull())
        .addColumn("request_id", "uuid", (column) => column.notNull())
        .addColumn("created_at", "timestamptz(3)", (column) => column.notNull())
        .addColumn("updated_at", "timestamptz(3)", (column) => column.notNull())
        .addUniqueConstraint("orders_request_id_key", ["request_id"])
        .execute();
      await db.schema.createIndex("orders_user_id_id_idx").on("orders").columns(["user_id", "id"]).execute();
      await db.schema
        .createTable("order_items")
        .addColumn("order_id", "uuid", (column) => column.notNull().references("orders.id").onDelete("cascade"))
        .addColumn("position", "int4", (column) => column.notNull())
        .addColumn("book_id", "uuid", (column) => column.notNull())
        .addColumn("title", "text", (column) => column.notNull())
        .addColumn("quantity", "int4", (column) => column.notNull())
        .addColumn("unit_price_cents", "int8", (column) => column.notNull())
        .addPrimaryKeyConstraint("order_items_pkey", ["order_id", "position"])
        .execute();
    },
  },
  "002_outbox": outboxMigration,
  "003_inbox": inboxMigration,
  "004_cancel_reason": {
    async up(db) {
      await db.schema.alterTable("orders").addColumn("cancel_reason", "text").execute();
    },
  },
  "005_inbox_upgrade": inboxUpgrade,
  "006_outbox_upgrade": outboxUpgrade,
};
