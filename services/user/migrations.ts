import { sql } from "kysely";
import type { Migration } from "#shared/database";

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
};
