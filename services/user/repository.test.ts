import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { type Kysely, sql } from "kysely";
import { v7 as uuid } from "uuid";
import { encodePageToken } from "#shared/database";
import { databaseForTest, postgresForTest } from "#shared/testing";
import { createMemoryRepository } from "./memory-repository.ts";
import { migrations } from "./migrations.ts";
import { createUserRepository, type UserEvents, type UserTables } from "./repository.ts";
import type { User, UserRepository } from "./users.ts";

const unheard: UserEvents = { created: async () => {} };

const databases: Record<string, (t: TestContext) => Promise<Kysely<UserTables> | undefined>> = {
  PGlite: async (t) => (await databaseForTest<UserTables>(t, { migrations })).db,
  async PostgreSQL(t) {
    const url = await postgresForTest(t);
    return url === undefined ? undefined : (await databaseForTest<UserTables>(t, { migrations, url })).db;
  },
};

const implementations: Record<string, (t: TestContext) => Promise<UserRepository | undefined>> = {
  memory: async () => createMemoryRepository(),
};
for (const [name, open] of Object.entries(databases)) {
  implementations[name] = async (t) => {
    const db = await open(t);
    return db && createUserRepository(db, unheard);
  };
}

let clock = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const userNamed = (username: string): User => {
  const now = new Date(clock++);
  return { id: uuid(), username, email: `${username}@example.com`, createdAt: now, updatedAt: now, greetings: 0n };
};

for (const [name, open] of Object.entries(implementations)) {
  describe(name, () => {
    const contract = (sentence: string, check: (repository: UserRepository) => Promise<void>) =>
      test(sentence, async (t) => {
        const repository = await open(t);
        if (repository !== undefined) await check(repository);
      });

    contract("a user that is stored is found as it was", async (repository) => {
      const ada = userNamed("ada");
      assert.deepEqual(await repository.create(ada, undefined), ada);
      assert.deepEqual(await repository.find(ada.id), ada);
    });

    contract("an unknown id finds nobody, whatever it looks like", async (repository) => {
      for (const id of [uuid(), "Ada", "", "0", `${uuid()}0`, "\0"]) assert.equal(await repository.find(id), undefined);
    });

    contract("a second creation by the same request answers the first user and stores nothing", async (repository) => {
      const requestId = randomUUID();
      const ada = await repository.create(userNamed("ada"), requestId);
      assert.deepEqual(await repository.create(userNamed("ada"), requestId), ada);
      assert.deepEqual(await repository.create(userNamed("bob"), requestId), ada);
      assert.deepEqual((await repository.list({ size: 10, token: "" })).users, [ada]);
    });

    contract("creations by the same request at the same moment store one user", async (repository) => {
      const requestId = randomUUID();
      const create = () => repository.create(userNamed("ada"), requestId);
      const users = await Promise.all(Array.from({ length: 8 }, create));
      assert.equal(new Set(users.map(({ id }) => id)).size, 1);
      assert.deepEqual((await repository.list({ size: 10, token: "" })).users, [users[0]]);
    });

    contract("an e-mail belongs to one user, without regard to case", async (repository) => {
      await repository.create(userNamed("ada"), randomUUID());
      const refusal = { code: "already_exists", reason: "EMAIL_TAKEN", metadata: { email: "ADA@example.com" } };
      for (const requestId of [undefined, randomUUID()]) {
        const other = { ...userNamed("bob"), email: "ADA@example.com" };
        await assert.rejects(repository.create(other, requestId), refusal);
      }
    });

    contract("greetings are counted of a user's username and id, and of no other name", async (repository) => {
      const [ada, bob] = [userNamed("ada"), userNamed("bob")];
      for (const name of ["ada", ada.id]) assert.equal(await repository.countGreeting(name), false);
      const requestId = randomUUID();
      assert.deepEqual(await repository.create(ada, requestId), ada);
      assert.deepEqual(await repository.create(bob, undefined), bob);
      for (const name of ["ada", "ada", ada.id]) assert.equal(await repository.countGreeting(name), true);
      const others = ["bo", "BOB", "", ada.id.toUpperCase(), uuid()];
      for (const name of others) assert.equal(await repository.countGreeting(name), false);
      const greeted = { ...ada, greetings: 3n };
      assert.deepEqual(await repository.create(ada, requestId), greeted);
      assert.deepEqual(await repository.find(ada.id), greeted);
      assert.deepEqual((await repository.list({ size: 10, token: "" })).users, [greeted, bob]);
      await repository.countGreeting(bob.id);
      assert.equal((await repository.find(bob.id))?.greetings, 1n);
    });

    contract("a repeat of a creation answers the greetings of now", async (repository) => {
      const requestId = randomUUID();
      const ada = await repository.create(userNamed("ada"), requestId);
      await repository.countGreeting("ada");
      assert.deepEqual(await repository.create(userNamed("ada"), requestId), { ...ada, greetings: 1n });
    });

    contract("greetings of one name at the same moment all count", async (repository) => {
      const ada = await repository.create(userNamed("ada"), undefined);
      await Promise.all(Array.from({ length: 20 }, () => repository.countGreeting("ada")));
      assert.equal((await repository.find(ada.id))?.greetings, 20n);
    });

    contract("pages hold every user once, oldest first, and the last has no token", async (repository) => {
      const stored: User[] = [];
      for (const username of ["a", "b", "c", "d", "e"]) {
        stored.push(await repository.create(userNamed(username), undefined));
      }
      const pages: (readonly User[])[] = [];
      let token = "";
      do {
        const page = await repository.list({ size: 2, token });
        pages.push(page.users);
        token = page.nextToken;
      } while (token !== "");
      assert.deepEqual(pages, [stored.slice(0, 2), stored.slice(2, 4), stored.slice(4)]);
      assert.equal((await repository.list({ size: 5, token: "" })).nextToken, "");
    });

    contract("a token of another list is refused", async (repository) => {
      for (const token of ["x", encodePageToken("books", [uuid()])]) {
        const refusal = { code: "invalid_argument", reason: "PAGE_TOKEN_INVALID" };
        await assert.rejects(repository.list({ size: 1, token }), refusal);
      }
    });
  });
}

for (const [name, open] of Object.entries(databases)) {
  describe(name, () => {
    test("a new user is announced in its transaction, and a repeat or a refusal is not", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const heard: { isTransaction: boolean; id: string }[] = [];
      const repository = createUserRepository(db, {
        created: async (tx, { id }) => void heard.push({ isTransaction: tx.isTransaction, id }),
      });
      const requestId = randomUUID();
      const ada = await repository.create(userNamed("ada"), requestId);
      await repository.create(userNamed("ada"), requestId);
      await assert.rejects(repository.create(userNamed("ada"), randomUUID()), { reason: "EMAIL_TAKEN" });
      assert.deepEqual(heard, [{ isTransaction: true, id: ada.id }]);
    });

    test("a user who cannot be announced is not stored", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const failure = new Error("the outbox is full");
      const repository = createUserRepository(db, { created: () => Promise.reject(failure) });
      const ada = userNamed("ada");
      await assert.rejects(repository.create(ada, randomUUID()), failure);
      assert.equal(await repository.find(ada.id), undefined);
    });

    test("on a transaction, all of it is undone with that", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const requestId = randomUUID();
      const ada = userNamed("ada");
      const undone = new Error("undone");
      const work = db.transaction().execute(async (tx) => {
        const repository = createUserRepository(tx, unheard);
        await repository.create(ada, requestId);
        // A transaction in which a statement has failed could go no further.
        assert.deepEqual(await repository.create(userNamed("bob"), requestId), ada);
        await assert.rejects(repository.create(userNamed("ada"), undefined), { reason: "EMAIL_TAKEN" });
        await repository.countGreeting("ada");
        assert.equal((await repository.find(ada.id))?.greetings, 1n);
        throw undone;
      });
      await assert.rejects(work, undone);
      const repository = createUserRepository(db, unheard);
      assert.equal(await repository.find(ada.id), undefined);
      assert.equal((await repository.create(ada, requestId)).greetings, 0n);
    });
  });
}

test("creations by the same request that race in PostgreSQL store one user", { timeout: 60_000 }, async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const { db } = await databaseForTest<UserTables>(t, { migrations, url });
  const repository = createUserRepository(db, unheard);

  async function untilWaiting(count: number): Promise<void> {
    const waiting = sql<{ count: bigint }>`
      select count(*) as count from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    while ((await waiting.execute(db)).rows[0]?.count !== BigInt(count)) t.signal.throwIfAborted();
  }

  // Which unique index a racing insert meets first is chance; the lock lets them all go at once.
  for (let round = 0; round < 30; round++) {
    const requestId = randomUUID();
    const { creations } = await db.transaction().execute(async (trx) => {
      await sql`lock table ${sql.table("users")}`.execute(trx);
      const creations = Array.from({ length: 8 }, () => repository.create(userNamed(`ada${round}`), requestId));
      await untilWaiting(8);
      // In an object, as the transaction must end before they can.
      return { creations };
    });
    const users = await Promise.all(creations);
    assert.equal(new Set(users.map(({ id }) => id)).size, 1);
  }
});
