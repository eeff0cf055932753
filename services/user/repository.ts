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
  async function findBy(column: "id" | "request_id", value: string): Promise<User | undefined> {
    const row = await db.selectFrom("users").selectAll().where(column, "=", value).executeTakeFirst();
    return row && toUser(row);
  }

  return {
    async create(user, requestId) {
      try {
        await db.insertInto("users").values(toRow(user, requestId)).execute();
        return user;
      } catch (error) {
        const violated = violatedConstraint(error);
        if (violated === undefined) throw error;
        // A repeat of the same request violates both constraints: which one is named is chance.
        const first = requestId === undefined ? undefined : await findBy("request_id", requestId);
        if (first !== undefined) return first;
        if (violated !== "users_email_key") throw error;
        throw new DomainError("already_exists", "EMAIL_TAKEN" satisfies UserErrorReason, "this e-mail is taken", {
          metadata: { email: user.email },
        });
      }
    },

    async find(id) {
      return isUuid(id) ? findBy("id", id) : undefined;
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

function toRow(user: User, requestId: string | undefined): UserTables["users"] {
  return {
    id: user.id,
    username: user.username,
    email: user.email,
    request_id: requestId ?? null,
    created_at: user.createdAt,
    updated_at: user.updatedAt,
  };
}

function toUser(row: Selectable<UserTables["users"]>): User {
  return {
    id: row.id,
    username: row.username,
    email: row.email,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
