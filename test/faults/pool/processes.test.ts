// Replicas of book-service that are killed, restarted, rolled and frozen, while a pool calls them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { until } from "#shared/testing";
import { poolForTest, RETRY, type Replica, reading, replicasForTest } from "../support/book-service.ts";
import { assertNoFailures, type Load, startLoad } from "../support/load.ts";

const addressesOf = (replicas: readonly Replica[]) => replicas.map(({ address }) => address);

/** Calls come, and some of them to this one. */
async function isCalled(replica: Replica, load: Load): Promise<void> {
  const before = replica.calls();
  await load.more(50);
  await until(`calls at ${replica.address}`, () => replica.calls() > before + 20);
}

test("1 and 2: of three replicas one is killed: no call fails; started again at its port, it is called again", async (t) => {
  const replicas = await replicasForTest(t, 3);
  if (replicas === undefined) return;
  const { books } = poolForTest(t, addressesOf(replicas.first));
  const load = startLoad(reading(books, replicas.bookId));
  t.after(() => load.stop());
  const [killed] = replicas.first;
  for (const replica of replicas.first) await isCalled(replica, load);
  await killed!.kill();
  await load.more(500);
  const again = await replicas.start(killed!.port);
  await isCalled(again, load);
  await assertNoFailures(load);
});

for (const [http, service] of Object.entries({ "2": {}, "1.1": { protocol: "connect", http: "1.1" } })) {
  test(`3: over HTTP/${http}, replicas are rolled one by one, each by a new one at its port: no call fails`, async (t) => {
    const replicas = await replicasForTest(t, 3);
    if (replicas === undefined) return;
    const { books } = poolForTest(t, addressesOf(replicas.first), service);
    const load = startLoad(reading(books, replicas.bookId));
    t.after(() => load.stop());
    await load.more(100);
    for (const old of replicas.first) {
      await old.stop();
      await isCalled(await replicas.start(old.port), load);
    }
    await load.more(100);
    await assertNoFailures(load);
  });
}

/**
 * A p99 may be so much above the calm one: twice as much, or by as much as a machine of two cores, which runs all of this
 * and more, makes two calm ones differ.
 */
const NOISE_MS = 30;

/** How long calls take to be over a freeze: an attempt's timeout, and its retry. */
const SETTLE_MS = 2_000;
const WINDOWS = 3;

for (const [by, service] of Object.entries({
  "attempts with a timeout": { retry: { ...RETRY, attempt_timeout: "300ms" } },
  hedges: { retry: undefined, hedge: { delay: "50ms", max: 2 } },
})) {
  test(`4: of three replicas one is frozen: by ${by}, no call fails and soon none is slow; thawed, it is called again`, async (t) => {
    const replicas = await replicasForTest(t, 3);
    if (replicas === undefined) return;
    const { books, state } = poolForTest(t, addressesOf(replicas.first), { ...service, keepalive: { timeout: "3s" } });
    const load = startLoad(reading(books, replicas.bookId));
    t.after(() => load.stop());
    const [frozen] = replicas.first;
    // Code that runs for the first time is slow.
    await load.more(500);
    const calmFrom = performance.now();
    await load.more(1_000);
    const frozenAt = performance.now();
    frozen!.freeze();
    await delay(SETTLE_MS);
    const calm = load.quantile(0.99, calmFrom, frozenAt);
    const limit = Math.max(2 * calm, calm + NOISE_MS);
    // Other work of the machine disturbs one window, a replica that is still called all of them.
    const windows: number[] = [];
    while (windows.length < WINDOWS && !(Math.min(...windows) <= limit)) {
      const from = performance.now();
      await load.more(1_000);
      windows.push(load.quantile(0.99, from, performance.now()));
    }
    t.diagnostic(
      `p99: ${calm.toFixed(1)} ms when calm, ${windows.map((ms) => ms.toFixed(1))} ms with a frozen replica`,
    );
    frozen!.thaw();
    await isCalled(frozen!, load);
    await assertNoFailures(load);
    assert.ok(
      Math.min(...windows) <= limit,
      `p99 of ${windows} ms, ${calm} ms when calm; ${JSON.stringify(state(), undefined, 2)}`,
    );
  });
}

for (const [by, service] of Object.entries({
  "retries with enough backoff": {
    retry: { max: 4, timeout: "20s", backoff: "1s", multiplier: 2, max_backoff: "4s" },
  },
  "wait_for_ready and health_check": { wait_for_ready: true, health_check: {} },
})) {
  test(`12: the only replica is restarted: by ${by}, no call fails`, async (t) => {
    const replicas = await replicasForTest(t, 1);
    if (replicas === undefined) return;
    const { books } = poolForTest(t, addressesOf(replicas.first), {
      timeout: "20s",
      connect_backoff: { initial: "100ms", max: "500ms" },
      ...service,
    });
    const load = startLoad(reading(books, replicas.bookId));
    t.after(() => load.stop());
    await load.more(300);
    for (let replica = replicas.first[0], restarts = 0; restarts < 2; restarts++) {
      await replica!.stop();
      replica = await replicas.start(replica!.port);
      await load.more(300);
    }
    await assertNoFailures(load);
  });
}
