import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { v7 as uuid } from "uuid";
import { recordLog } from "#shared/testing";
import { createMemoryRepository } from "./memory-repository.ts";
import type { Order } from "./orders.ts";
import { createSettle, createTimeOut } from "./settlement.ts";

const confirmed = { status: "CONFIRMED" } as const;
const cancelled = { status: "CANCELLED", cancelReason: "OUT_OF_STOCK" } as const;

async function start() {
  const now = new Date();
  const order: Order = {
    id: uuid(),
    userId: uuid(),
    items: [],
    totalCents: 0n,
    status: "PENDING",
    createdAt: now,
    updatedAt: now,
  };
  const repository = createMemoryRepository();
  await repository.create(order, randomUUID());
  const log = recordLog();
  const announced: string[] = [];
  const options = {
    repository: {
      ...repository,
      async announceCancelled(id: string) {
        announced.push(id);
        return repository.announceCancelled(id);
      },
    },
    logger: log.logger,
  };
  return { id: order.id, repository, log, announced, settle: createSettle(options), timeOut: createTimeOut(options) };
}

for (const [settlement, msg] of [
  [confirmed, "order confirmed"],
  [cancelled, "order cancelled"],
] as const) {
  test(`a pending order becomes ${settlement.status}, and one line says so`, async () => {
    const { id, repository, log, settle } = await start();
    for (let n = 0; n < 3; n++) await settle(id, settlement);
    assert.equal((await repository.find(id))?.status, settlement.status);
    assert.deepEqual(
      log.lines.map((line) => [line.level, line.msg, line["order_id"]]),
      [["info", msg, id]],
    );
  });
}

test("the first word holds, and another is logged", async () => {
  const { id, repository, log, settle } = await start();
  await settle(id, confirmed);
  await settle(id, cancelled);
  const order = await repository.find(id);
  assert.deepEqual([order?.status, order?.cancelReason], ["CONFIRMED", undefined]);
  assert.equal(log.matching({ level: "warn", order_id: id, status: "CONFIRMED", refused: "CANCELLED" }).length, 1);
});

test("an order that is unknown is a failure: it may be there later", async () => {
  const { settle } = await start();
  const id = uuid();
  await assert.rejects(settle(id, confirmed), { reason: "ORDER_NOT_FOUND", metadata: { order_id: id } });
});

test("an order that is pending when its time is over is cancelled, once, and one line says so", async () => {
  const { id, repository, log, timeOut } = await start();
  for (let n = 0; n < 3; n++) await timeOut(id);
  const order = await repository.find(id);
  assert.deepEqual([order?.status, order?.cancelReason], ["CANCELLED", "TIMED_OUT"]);
  assert.deepEqual(
    log.lines.map(({ msg }) => msg),
    ["order timed out"],
  );
});

test("an order that has ended, or is unknown, has no time left that could be over, and no line says so", async () => {
  const { id, repository, log, settle, timeOut } = await start();
  await settle(id, confirmed);
  const before = log.lines.length;
  for (const one of [id, uuid()]) await timeOut(one);
  assert.equal((await repository.find(id))?.status, "CONFIRMED");
  assert.equal(log.lines.length, before);
});

test("stock that is reserved for an order that has timed out is given back, and other decisions change nothing", async () => {
  const { id, repository, log, announced, settle, timeOut } = await start();
  await timeOut(id);
  await settle(id, cancelled);
  assert.deepEqual(announced, []);
  await settle(id, confirmed);
  assert.deepEqual(announced, [id]);
  assert.equal((await repository.find(id))?.cancelReason, "TIMED_OUT");
  const given = { level: "info", order_id: id, msg: "stock of a cancelled order is given back" };
  assert.equal(log.matching(given).length, 1);
});
