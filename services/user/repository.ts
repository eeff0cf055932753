import type { Kysely, Selectable } from "kysely";
import { validate as isUuid } from "uuid";
import { decodePageToken, encodePageToken, violatedConstraint } from "#shared/database";
import { DomainError } from "#shared/errors";
import type { User, UserErrorReason, UserRepository } from "./users.ts";

export interface UserTables {
  users: {
    id: string;
    username: string;
    email: string;
    request_id: string | null;
    created_at: Date;
    updated_at: Date;
  };
}

export function createUserRepository(db: Kysely<UserTables>): UserRepository {
  return {
    async create({ id, username, email, createdAt, updatedAt }, requestId) {
      const row = { id, username, email, request_id: requestId ?? null, created_at: createdAt, updated_at: updatedAt };
      try {
        const stored = await db
          .insertInto("users")
          .values(row)
          .onConflict((conflict) => conflict.constraint("users_request_id_key").doNothing())
          .returningAll()
          .executeTakeFirst();
        if (stored !== undefined) return toUser(stored);
      } catch (error) {
        if (violatedConstraint(error) !== "users_email_key") throw error;
        throw new DomainError("already_exists", "EMAIL_TAKEN" satisfies UserErrorReason, "this e-mail is taken", {
          metadata: { email },
        });
      }
      const first = await db
        .selectFrom("users")
        .selectAll()
        .where("request_id", "=", row.request_id)
        .executeTakeFirstOrThrow();
      return toUser(first);
    },

    async find(id) {
      if (!isUuid(id)) return undefined;
      const row = await db.selectFrom("users").selectAll().where("id", "=", id).executeTakeFirst();
      return row && toUser(row);
    },

    async list({ size, token }) {
      const after = decodePageToken("users", token, ["uuid"]);
      const rows = await db
        .selectFrom("users")
        .selectAll()
        .$if(after !== undefined, (query) => query.where("id", ">", after?.[0] ?? ""))
        .orderBy("id")
        .limit(size + 1)
        .execute();
      const users = rows.slice(0, size).map(toUser);
      const last = users.at(-1);
      return { users, nextToken: rows.length > size && last ? encodePageToken("users", [last.id]) : "" };
    },
  };
}

function toUser(row: Selectable<UserTables["users"]>): User {
  const { id, username, email, created_at: createdAt, updated_at: updatedAt } = row;
  return { id, username, email, createdAt, updatedAt };
}
