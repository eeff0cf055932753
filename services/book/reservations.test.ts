import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { v7 as uuid } from "uuid";
import { recordLog } from "#shared/testing";
import { createMemoryRepository } from "./memory-repository.ts";
import { createRelease, createReserve } from "./reservations.ts";

async function start({ stock }: { stock: number }) {
  const now = new Date();
  const id = uuid();
  const book = { id, title: "House", author: "Tracy Kidder", priceCents: 1n, stock, initialStock: stock };
  const repository = createMemoryRepository();
  await repository.create({ ...book, createdAt: now, updatedAt: now }, randomUUID());
  const log = recordLog();
  const order = { id: uuid(), items: [{ bookId: id, quantity: 2 }] };
  const options = { repository, logger: log.logger };
  return { bookId: id, order, repository, log, reserve: createReserve(options), release: createRelease(options) };
}

test("an order's books are set aside once, and it is logged", async () => {
  const { bookId, order, repository, log, reserve } = await start({ stock: 5 });
  for (let n = 0; n < 3; n++) await reserve(order);
  assert.equal((await repository.find(bookId))?.stock, 3);
  assert.equal(log.matching({ level: "info", msg: "stock reserved", order_id: order.id }).length, 3);
});

test("an order of more than there are takes nothing, and what is short is logged", async () => {
  const { bookId, order, repository, log, reserve } = await start({ stock: 1 });
  await reserve(order);
  assert.equal((await repository.find(bookId))?.stock, 1);
  const shortage = { book_id: bookId, requested: 2, available: 1 };
  assert.equal(log.matching({ level: "info", msg: "stock rejected", order_id: order.id, ...shortage }).length, 1);
});

test("a cancelled order's books are given back once, and a later reservation takes none; both are logged", async () => {
  const { bookId, order, repository, log, reserve, release } = await start({ stock: 5 });
  await reserve(order);
  for (let n = 0; n < 3; n++) await release(order);
  await reserve(order);
  assert.equal((await repository.find(bookId))?.stock, 5);
  assert.equal(log.matching({ level: "info", msg: "stock released", order_id: order.id }).length, 1);
  assert.equal(log.matching({ level: "info", msg: "order was cancelled before", order_id: order.id }).length, 1);
});
