// Replicas of book-service that come and go in a registry, and a registry that goes, while a pool calls them.

import assert from "node:assert/strict";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createRegistration, discoverySection, type Registration, registrationSection } from "#shared/discovery";
import { dnsmasqForTest, etcdForTest, recordLog, until } from "#shared/testing";
import { poolForTest, type Replica, reading, replicasForTest } from "../support/book-service.ts";
import { assertNoFailures, type Load, startLoad } from "../support/load.ts";

const SERVICE = "etcd:///book-service";
/** The keys of gRPC's naming in etcd. */
const PREFIX = "book-service/";

/** Lists them in etcd, as each would itself; withdrawn after the test. */
function registrar(t: TestContext, url: string) {
  const discovery = discoverySection.parse({ etcd: { endpoints: [url] } });
  const { logger } = recordLog("info");
  return {
    discovery,
    register({ address: advertise }: Pick<Replica, "address">): Registration {
      const config = registrationSection.parse({ address: SERVICE, advertise, ttl: "3s" });
      const registration = createRegistration(config, { discovery, logger });
      t.after(() => registration.stop(AbortSignal.abort()));
      registration.start();
      return registration;
    },
  };
}

async function isCalled(replica: Replica, load: Load): Promise<void> {
  const before = replica.calls();
  await load.more(50);
  await until(`calls at ${replica.address}`, () => replica.calls() > before + 20);
}

test("8: replicas listed in etcd are replaced one after the other: no call fails, and the old ones get none any more", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const replicas = await replicasForTest(t, 3);
  if (replicas === undefined) return;
  const { discovery, register } = registrar(t, etcd.url);
  const old = replicas.first.map((replica) => ({ replica, registration: register(replica) }));
  const { books, state } = poolForTest(t, SERVICE, {}, discovery);
  await until("all to be found", () => state().endpoints.length === 3);
  const load = startLoad(reading(books, replicas.bookId));
  t.after(() => load.stop());
  for (const { replica } of old) await isCalled(replica, load);
  for (const { replica, registration } of old) {
    const next = await replicas.start();
    register(next);
    await isCalled(next, load);
    await registration.stop();
    await until("it to be left", () => state().endpoints.every(({ address }) => address !== replica.address));
    // What was on its way is done.
    await load.more(50);
    const before = replica.calls();
    await load.more(100);
    assert.equal(replica.calls(), before, "calls of one that is not listed any more");
    await replica.stop();
  }
  assert.equal(state().endpoints.length, 3);
  await assertNoFailures(load);
});

/** How long etcd is away: long enough for leases and backoffs; a minute with FULL_FAULTS=1. */
const AWAY_MS = process.env["FULL_FAULTS"] === "1" ? 60_000 : 8_000;

for (const [how, isForgotten] of [
  ["with its data", false],
  ["with an empty data folder", true],
] as const) {
  test(`9: etcd is away for ${AWAY_MS / 1_000} s and comes back ${how}: no call fails, and all are listed again`, async (t) => {
    const etcd = await etcdForTest(t);
    if (etcd === undefined) return;
    const replicas = await replicasForTest(t, 3);
    if (replicas === undefined) return;
    const { discovery, register } = registrar(t, etcd.url);
    for (const replica of replicas.first) register(replica);
    const { books, state } = poolForTest(t, SERVICE, {}, discovery);
    await until("all to be found", () => state().endpoints.length === 3);
    const load = startLoad(reading(books, replicas.bookId));
    t.after(() => load.stop());
    await load.more(200);
    await etcd.stop();
    await delay(AWAY_MS);
    await load.more(200);
    assert.equal(state().endpoints.length, 3, "the last ones that were known");
    if (isForgotten) await etcd.forget();
    await etcd.start();
    const listed = async () => (await etcd.list(PREFIX)).size;
    // No try is more than a third of the ttl after the one before it.
    await until("all to be listed again", async () => (await listed()) === 3);

    // And it is followed again.
    const next = await replicas.start();
    register(next);
    await until("the new one to be found", () => state().endpoints.length === 4, 40_000);
    await isCalled(next, load);
    await assertNoFailures(load);
  });
}

/** Names are looked up so often; a server that is started anew for each change is away for a moment. */
const dnsDiscovery = discoverySection.parse({ dns: { refresh_interval: "200ms" }, empty_grace: "30s" });

test("10: by dns:///, a replica that is added is called, and one that is removed is not any more; no call fails", async (t) => {
  const name = "book.test";
  const dnsmasq = await dnsmasqForTest(t, { hosts: { [name]: ["127.0.0.1", "127.0.0.2"] } });
  if (dnsmasq === undefined) return;
  // All at the same port, each at an address of its own, as DNS without SRV has it.
  const replicas = await replicasForTest(t, 1);
  if (replicas === undefined) return;
  const [first] = replicas.first;
  const port = first!.port;
  const second = await replicas.start(port, "127.0.0.2");
  const third = await replicas.start(port, "127.0.0.3");
  const { books, state } = poolForTest(t, `dns://${dnsmasq.server}/${name}:${port}`, {}, dnsDiscovery);
  const load = startLoad(reading(books, replicas.bookId));
  t.after(() => load.stop());
  await isCalled(first!, load);
  await isCalled(second, load);
  assert.equal(third.calls(), 0);

  await dnsmasq.serve({ hosts: { [name]: ["127.0.0.1", "127.0.0.2", "127.0.0.3"] } });
  await isCalled(third, load);
  await dnsmasq.serve({ hosts: { [name]: ["127.0.0.1", "127.0.0.3"] } });
  await isLeft(second, load, () => addressesIn(state()));
  await second.stop();
  await load.more(100);
  await assertNoFailures(load);
});

test("10: by srv:///, a replica that is added is called, and one that is removed is not any more; no call fails", async (t) => {
  const name = "_grpc._tcp.book.test";
  const host = "node.test";
  const replicas = await replicasForTest(t, 3);
  if (replicas === undefined) return;
  const [first, second, third] = replicas.first;
  const records = (...listed: readonly (Replica | undefined)[]) => ({
    hosts: { [host]: ["127.0.0.1"] },
    srv: listed.map((replica) => ({ name, target: host, port: replica!.port, weight: 10 })),
  });
  const dnsmasq = await dnsmasqForTest(t, records(first, second));
  if (dnsmasq === undefined) return;
  const { books, state } = poolForTest(t, `srv://${dnsmasq.server}/${name}`, {}, dnsDiscovery);
  const load = startLoad(reading(books, replicas.bookId));
  t.after(() => load.stop());
  await isCalled(first!, load);
  await isCalled(second!, load);
  const before = third!.calls();

  await dnsmasq.serve(records(first, second, third));
  await isCalled(third!, load);
  assert.ok(third!.calls() > before);
  await dnsmasq.serve(records(first, third));
  await isLeft(second!, load, () => addressesIn(state()));
  await second!.stop();
  await load.more(100);
  await assertNoFailures(load);
});

function addressesIn({ endpoints }: { readonly endpoints: readonly { readonly address: string }[] }): string[] {
  return endpoints.map(({ address }) => address);
}

async function isLeft(replica: Replica, load: Load, addresses: () => string[]): Promise<void> {
  await until(`${replica.address} to be left`, () => !addresses().includes(replica.address));
  await load.more(50);
  const before = replica.calls();
  await load.more(100);
  assert.equal(replica.calls(), before, "calls of one that is not listed any more");
}
