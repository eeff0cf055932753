import { type ExpressionBuilder, type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { validate as isUuid } from "uuid";
import { decodePageToken, encodePageToken, inTransaction } from "#shared/database";
import { DomainError } from "#shared/errors";
import type { NewUser, User, UserErrorReason, UserRepository } from "./users.ts";

export interface UserTables {
  users: {
    id: string;
    username: string;
    email: string;
    request_id: string | null;
    created_at: Date;
    updated_at: Date;
  };
  greetings: {
    /** A username, or a user's id. */
    name: string;
    count: bigint;
  };
}

type UserRow = Selectable<UserTables["users"]> & { greetings: bigint };

/** Publishes what happens to users, in the transaction of the change. */
export interface UserEvents {
  created(tx: Transaction<UserTables>, user: NewUser): Promise<void>;
}

/** Publishes every new user by `events`. On a transaction it works in that one. */
export function createUserRepository(db: Kysely<UserTables>, events: UserEvents): UserRepository {
  const select = () => db.selectFrom("users").selectAll("users").select(greetings);

  async function findBy(column: "id" | "request_id", value: string): Promise<User | undefined> {
    const row = await select().where(column, "=", value).executeTakeFirst();
    return row && toUser(row);
  }

  return {
    async create(user, requestId) {
      const stored = await inTransaction(db, async (tx) => {
        // Of either constraint: a repeat of the same request violates both.
        const row = await tx
          .insertInto("users")
          .values(toRow(user, requestId))
          .onConflict((conflict) => conflict.doNothing())
          .returningAll()
          .returning(greetings)
          .executeTakeFirst();
        if (row !== undefined) await events.created(tx, user);
        return row;
      });
      if (stored !== undefined) return toUser(stored);
      const first = requestId === undefined ? undefined : await findBy("request_id", requestId);
      if (first !== undefined) return first;
      throw new DomainError("already_exists", "EMAIL_TAKEN" satisfies UserErrorReason, "this e-mail is taken", {
        metadata: { email: user.email },
      });
    },

    async find(id) {
      return isUuid(id) ? findBy("id", id) : undefined;
    },

    async list({ size, token }) {
      const after = decodePageToken("users", token, ["uuid"]);
      const rows = await select()
        .$if(after !== undefined, (query) => query.where("id", ">", after?.[0] ?? ""))
        .orderBy("id")
        .limit(size + 1)
        .execute();
      const users = rows.slice(0, size).map(toUser);
      const last = users.at(-1);
      return { users, nextToken: rows.length > size && last ? encodePageToken("users", [last.id]) : "" };
    },

    async countGreeting(name) {
      // As it is stored: another spelling of an id would be a row that no user shows.
      const id = isUuid(name) ? name.toLowerCase() : undefined;
      const greeted = db
        .selectFrom("users")
        .select([sql<string>`${name}::text`.as("name"), sql<bigint>`1::int8`.as("count")])
        .where((eb) => eb.or([eb("username", "=", name), ...(id === name ? [eb("id", "=", id)] : [])]))
        .limit(1);
      const row = await db
        .insertInto("greetings")
        .columns(["name", "count"])
        .expression(greeted)
        .onConflict((conflict) =>
          conflict.column("name").doUpdateSet((eb) => ({ count: eb("greetings.count", "+", 1n) })),
        )
        .returning("name")
        .executeTakeFirst();
      return row !== undefined;
    },
  };
}

/** Of a user's username and id together. */
function greetings(users: ExpressionBuilder<UserTables, "users">) {
  return users
    .selectFrom("greetings")
    .select(sql<bigint>`coalesce(sum(greetings.count), 0)::int8`.as("greetings"))
    .where("greetings.name", "in", sql<string>`(users.username, users.id::text)`)
    .$asScalar()
    .$notNull()
    .as("greetings");
}

function toRow(user: NewUser, requestId: string | undefined): UserTables["users"] {
  return {
    id: user.id,
    username: user.username,
    email: user.email,
    request_id: requestId ?? null,
    created_at: user.createdAt,
    updated_at: user.updatedAt,
  };
}

function toUser(row: UserRow): User {
  return {
    id: row.id,
    username: row.username,
    email: row.email,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    greetings: row.greetings,
  };
}
