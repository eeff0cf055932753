// Replicas of book-service that answer late, or behind a link that swallows everything, while a pool calls them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { startTcpProxy, until } from "#shared/testing";
import { poolForTest, RETRY, reading, replicasForTest } from "../support/book-service.ts";
import { startLink } from "../support/link.ts";
import { assertNoFailures, startLoad } from "../support/load.ts";

test("5: of three replicas one answers late: it gets far fewer calls than each of the others, and no call fails", async (t) => {
  const replicas = await replicasForTest(t, 3);
  if (replicas === undefined) return;
  const [slow, ...quick] = replicas.first;
  const link = await startLink(slow!.port, 300);
  t.after(() => link.close());
  const { books, state } = poolForTest(t, [`127.0.0.1:${link.port}`, ...quick.map(({ address }) => address)]);
  const load = startLoad(reading(books, replicas.bookId));
  t.after(() => load.stop());
  // By then it is known who is slow.
  await load.more(300);
  const counts = () => replicas.first.map((replica) => replica.calls());
  const before = counts();
  await load.more(1_200);
  const [ofSlow = 0, ...ofQuick] = counts().map((count, index) => count - before[index]!);
  await assertNoFailures(load);
  const least = Math.min(...ofQuick);
  t.diagnostic(`calls: ${ofSlow} of the slow one, ${ofQuick.join(" and ")} of the others`);
  assert.ok(ofSlow * 4 < least, `${ofSlow} calls, ${ofQuick} of the others: ${JSON.stringify(state(), undefined, 2)}`);
});

for (const [how, keepalive] of Object.entries({
  "before its connection is given up": { timeout: "20s" },
  "after its connection is given up": { timeout: "500ms" },
})) {
  test(`6: of three replicas one is behind a link that swallows all: no call fails; when the link is well again, ${how}, it is called again`, async (t) => {
    const replicas = await replicasForTest(t, 3);
    if (replicas === undefined) return;
    const [cut, ...others] = replicas.first;
    const link = await startTcpProxy({ port: cut!.port });
    t.after(() => link.close());
    const address = `127.0.0.1:${link.port}`;
    const retry = { ...RETRY, attempt_timeout: "300ms" };
    const { books, state } = poolForTest(t, [address, ...others.map(({ address }) => address)], { retry, keepalive });
    const load = startLoad(reading(books, replicas.bookId));
    t.after(() => load.stop());
    await load.more(500);
    await until("calls of each", () => replicas.first.every((replica) => replica.calls() > 20));
    const endpoint = () => state().endpoints.find((one) => one.address === address);

    link.stall();
    await until("it to be left alone", () => endpoint()?.responsive === false || endpoint()?.state !== "ready");
    if (keepalive.timeout === "500ms") await until("its connection to go", () => endpoint()?.state !== "ready");
    const before = cut!.calls();
    await load.more(1_000);
    // What was on its way when the link broke.
    assert.ok(cut!.calls() - before <= 24, `${cut!.calls() - before} calls got through`);

    link.resume();
    const onceMore = cut!.calls();
    await until(`calls again; ${JSON.stringify(endpoint())}`, () => cut!.calls() > onceMore + 20);
    await assertNoFailures(load);
  });
}
