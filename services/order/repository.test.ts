import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import type { Kysely } from "kysely";
import { v7 as uuid } from "uuid";
import { encodePageToken } from "#shared/database";
import { databaseForTest, postgresForTest } from "#shared/testing";
import { createMemoryRepository } from "./memory-repository.ts";
import { migrations } from "./migrations.ts";
import type { Order, OrderRepository } from "./orders.ts";
import { createOrderRepository, type OrderEvents, type OrderTables } from "./repository.ts";

const unheard: OrderEvents = { placed: async () => {}, confirmed: async () => {}, cancelled: async () => {} };

const databases: Record<string, (t: TestContext) => Promise<Kysely<OrderTables> | undefined>> = {
  PGlite: async (t) => (await databaseForTest<OrderTables>(t, { migrations })).db,
  async PostgreSQL(t) {
    const url = await postgresForTest(t);
    return url === undefined ? undefined : (await databaseForTest<OrderTables>(t, { migrations, url })).db;
  },
};

const implementations: Record<string, (t: TestContext) => Promise<OrderRepository | undefined>> = {
  memory: async () => createMemoryRepository(),
};
for (const [name, open] of Object.entries(databases)) {
  implementations[name] = async (t) => {
    const db = await open(t);
    return db && createOrderRepository(db, unheard);
  };
}

let clock = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const itemOf = (title: string) => ({ bookId: uuid(), title, quantity: 2, unitPriceCents: 1_999n });
const cancelled = { status: "CANCELLED", cancelReason: "OUT_OF_STOCK" } as const;
const orderOf = (fields: Partial<Order> = {}): Order => {
  const now = new Date(clock++);
  const order = { id: uuid(), userId: uuid(), items: [itemOf("a")], totalCents: 3_998n, status: "PENDING" as const };
  return { ...order, createdAt: now, updatedAt: now, ...fields };
};

for (const [name, open] of Object.entries(implementations)) {
  describe(name, () => {
    const contract = (sentence: string, check: (repository: OrderRepository) => Promise<void>) =>
      test(sentence, async (t) => {
        const repository = await open(t);
        if (repository !== undefined) await check(repository);
      });
    contract("an order that is stored is found as it was, by its id and by its request", async (repository) => {
      const items = ["c", "a", "Å “quoted” \\ 'title'"].map(itemOf);
      const order = orderOf({ items, totalCents: 5_000_000_000_000n });
      const requestId = randomUUID();
      await store(repository, orderOf());
      assert.deepEqual(await repository.create(order, requestId), order);
      assert.deepEqual(await repository.find(order.id), order);
      assert.deepEqual(await repository.findByRequestId(requestId), order);
    });

    contract("a pending order is confirmed, and nothing else of it changes but its time", async (repository) => {
      const order = await store(repository, orderOf());
      assert.equal(await repository.settle(order.id, { status: "CONFIRMED" }), true);
      const now = await repository.find(order.id);
      assert.ok(now && now.updatedAt >= order.updatedAt);
      assert.deepEqual(now, { ...order, status: "CONFIRMED", updatedAt: now.updatedAt });
    });

    contract("of a cancelled order alone it is announced again that it is", async (repository) => {
      const [order, other] = [await store(repository, orderOf()), await store(repository, orderOf())];
      await repository.settle(order.id, cancelled);
      const announced = [order.id, other.id, uuid(), "x"].map((id) => repository.announceCancelled(id));
      assert.deepEqual(await Promise.all(announced), [true, false, false, false]);
    });

    contract("a pending order is cancelled, with the reason", async (repository) => {
      const order = await store(repository, orderOf());
      assert.equal(await repository.settle(order.id, cancelled), true);
      const now = await repository.find(order.id);
      assert.deepEqual(now, { ...order, ...cancelled, updatedAt: now?.updatedAt });
      assert.deepEqual((await repository.list({ size: 1, token: "" })).orders, [now]);
    });

    contract("an order that has ended stays as it is", async (repository) => {
      const order = await store(repository, orderOf());
      await repository.settle(order.id, { status: "CONFIRMED" });
      const ended = await repository.find(order.id);
      for (const settlement of [{ status: "CONFIRMED" } as const, cancelled]) {
        assert.equal(await repository.settle(order.id, settlement), false);
      }
      assert.deepEqual(await repository.find(order.id), ended);
    });

    contract("an order is ended once, however many end it at the same moment", async (repository) => {
      const order = await store(repository, orderOf());
      const settlements = [{ status: "CONFIRMED" } as const, cancelled];
      const ends = Array.from({ length: 8 }, (_, n) => repository.settle(order.id, settlements[n % 2]!));
      assert.deepEqual((await Promise.all(ends)).filter(Boolean), [true]);
    });

    contract("an unknown order is not ended, whatever its id looks like", async (repository) => {
      for (const id of [uuid(), "x", "", "\0"]) assert.equal(await repository.settle(id, cancelled), false);
    });

    contract("an unknown id finds nothing, whatever it looks like", async (repository) => {
      for (const id of [uuid(), "x", "", "\0"]) assert.equal(await repository.find(id), undefined);
      assert.equal(await repository.findByRequestId(uuid()), undefined);
    });

    contract("a second creation by the same request answers the first order and stores nothing", async (repository) => {
      const requestId = randomUUID();
      const first = await repository.create(orderOf(), requestId);
      assert.deepEqual(await repository.create(orderOf({ items: ["b", "c"].map(itemOf) }), requestId), first);
      assert.deepEqual((await repository.list({ size: 10, token: "" })).orders, [first]);
    });

    contract("creations by the same request at the same moment store one order", async (repository) => {
      const requestId = randomUUID();
      const create = () => repository.create(orderOf(), requestId);
      const orders = await Promise.all(Array.from({ length: 8 }, create));
      assert.equal(new Set(orders.map(({ id }) => id)).size, 1);
      assert.deepEqual((await repository.list({ size: 10, token: "" })).orders, [orders[0]]);
    });

    contract("pages hold every order once, newest first, and the last has no token", async (repository) => {
      const stored: Order[] = [];
      for (let n = 0; n < 5; n++) stored.unshift(await store(repository, orderOf()));
      assert.deepEqual(await pagesOf(repository), [stored.slice(0, 2), stored.slice(2, 4), stored.slice(4)]);
      assert.equal((await repository.list({ size: 5, token: "" })).nextToken, "");
    });

    contract("pages of one user hold that user's orders alone", async (repository) => {
      const [ada, bob] = [uuid(), uuid()];
      const stored: Order[] = [];
      for (const userId of [ada, bob, ada, bob, ada]) stored.unshift(await store(repository, orderOf({ userId })));
      const own = stored.filter(({ userId }) => userId === ada);
      assert.deepEqual(await pagesOf(repository, ada), [own.slice(0, 2), own.slice(2)]);
    });

    contract("a user that is unknown, or a mere name, has no orders", async (repository) => {
      await store(repository, orderOf());
      for (const userId of [uuid(), "Ada", "\0"]) {
        assert.deepEqual(await repository.list({ size: 10, token: "", userId }), { orders: [], nextToken: "" });
      }
    });

    contract("a token of another list, or of another user's, is refused", async (repository) => {
      const [ada, bob] = [uuid(), uuid()];
      for (let n = 0; n < 2; n++) await store(repository, orderOf({ userId: ada }));
      const { nextToken } = await repository.list({ size: 1, token: "", userId: ada });
      const refusal = { code: "invalid_argument", reason: "PAGE_TOKEN_INVALID" };
      for (const token of ["x", encodePageToken("books", [uuid()]), nextToken]) {
        await assert.rejects(repository.list({ size: 1, token, userId: bob }), refusal);
        await assert.rejects(repository.list({ size: 1, token }), refusal);
      }
      await assert.rejects(repository.list({ size: 1, token: "x", userId: "Ada" }), refusal);
    });
  });
}

for (const [name, open] of Object.entries(databases)) {
  describe(name, () => {
    test("keeps nothing of an order whose items it refuses", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const repository = createOrderRepository(db, unheard);
      const order = orderOf({ items: [itemOf("a"), { ...itemOf("b"), quantity: 2 ** 31 }] });
      await assert.rejects(repository.create(order, randomUUID()));
      assert.equal(await repository.find(order.id), undefined);
    });

    test("every change is announced in its transaction, and what changes nothing is not", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const heard: unknown[] = [];
      const repository = createOrderRepository(db, {
        placed: async (tx, order) => void heard.push([tx.isTransaction, "placed", order]),
        confirmed: async (tx, ids) => void heard.push([tx.isTransaction, "confirmed", ids]),
        cancelled: async (tx, order) => void heard.push([tx.isTransaction, "cancelled", order]),
      });
      const [first, second] = [orderOf(), orderOf()];
      const requestId = randomUUID();
      for (let n = 0; n < 2; n++) await repository.create(first, requestId);
      await repository.create(second, randomUUID());
      for (let n = 0; n < 2; n++) {
        await repository.settle(first.id, { status: "CONFIRMED" });
        await repository.settle(second.id, cancelled);
        await repository.settle(uuid(), cancelled);
      }
      for (const id of [second.id, first.id, uuid()]) await repository.announceCancelled(id);
      const items = second.items.map(({ bookId, quantity }) => ({ bookId, quantity }));
      const cancelledOrder = { id: second.id, userId: second.userId, reason: "OUT_OF_STOCK", items };
      assert.deepEqual(heard, [
        [true, "placed", first],
        [true, "placed", second],
        [true, "confirmed", { id: first.id, userId: first.userId }],
        [true, "cancelled", cancelledOrder],
        [true, "cancelled", cancelledOrder],
      ]);
    });

    test("a change that cannot be announced is not made", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const failure = new Error("the outbox is full");
      const fail = () => Promise.reject(failure);
      const mute = createOrderRepository(db, { placed: fail, confirmed: fail, cancelled: fail });
      const repository = createOrderRepository(db, unheard);
      const order = orderOf();
      await assert.rejects(mute.create(order, randomUUID()), failure);
      assert.equal(await repository.find(order.id), undefined);
      await store(repository, order);
      for (const settlement of [{ status: "CONFIRMED" } as const, cancelled]) {
        await assert.rejects(mute.settle(order.id, settlement), failure);
      }
      assert.deepEqual(await repository.find(order.id), order);
    });

    test("on a transaction, all of it is undone with that", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const order = orderOf();
      const requestId = randomUUID();
      const undone = new Error("undone");
      const work = db.transaction().execute(async (tx) => {
        const repository = createOrderRepository(tx, unheard);
        await repository.create(order, requestId);
        // A transaction in which a statement has failed could go no further.
        assert.deepEqual(await repository.create(orderOf(), requestId), order);
        assert.equal(await repository.settle("x", cancelled), false);
        assert.equal(await repository.settle(order.id, cancelled), true);
        throw undone;
      });
      await assert.rejects(work, undone);
      assert.equal(await createOrderRepository(db, unheard).find(order.id), undefined);
    });
  });
}

function store(repository: OrderRepository, order: Order): Promise<Order> {
  return repository.create(order, randomUUID());
}

async function pagesOf(repository: OrderRepository, userId?: string): Promise<(readonly Order[])[]> {
  const pages: (readonly Order[])[] = [];
  let token = "";
  do {
    const page = await repository.list({ size: 2, token, ...(userId === undefined ? {} : { userId }) });
    pages.push(page.orders);
    token = page.nextToken;
  } while (token !== "");
  return pages;
}
