import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  closeAfter,
  type EtcdForTest,
  etcdForTest,
  recordLog,
  startTcpProxy,
  type TcpProxy,
  until,
  within,
} from "#shared/testing";
import { createRegistration, discoverySection, type Registration, registrationSection } from "./index.ts";
import { startFakeConsul } from "./test-support/fake-consul.ts";
import { follow } from "./test-support/follow.ts";

const ADVERTISE = "10.0.0.7:9002";
const KEY = `book/${ADVERTISE}`;

function registrationForTest(t: TestContext, address: string, discovery: object, more: object = {}) {
  const log = recordLog();
  // The shortest ttl, so that it is renewed each second.
  const config = registrationSection.parse({ address, advertise: ADVERTISE, ttl: "3s", ...more });
  const registration = createRegistration(config, {
    discovery: discoverySection.parse(discovery),
    logger: log.logger,
    random: () => 0,
  });
  t.after(() => registration.stop());
  return { registration, log };
}

/** Closed when nothing is connected: a socket that is reset while it is ending is never closed (Node 24). */
async function proxyForTest(t: TestContext, etcd: EtcdForTest): Promise<TcpProxy> {
  const proxy = await startTcpProxy({ port: etcd.port });
  closeAfter(t, async () => {
    await etcd.stop();
    await until("no connection", () => proxy.connections === 0);
    await proxy.close();
  });
  return proxy;
}

const etcdAt = (url: string) => ({ etcd: { endpoints: [url] } });

async function untilListed(etcd: EtcdForTest, registration: Registration): Promise<void> {
  await until("the key", async () => (await etcd.list("book/")).has(KEY));
  await until("the state", () => registration.state() === "registered");
}

test("etcd: an instance is listed as Go services list themselves, and is gone when it stops", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const { registration, log } = registrationForTest(t, "etcd:///book", etcdAt(etcd.url), { weight: 5 });
  assert.equal(registration.state(), "withdrawn");
  registration.start();
  registration.start();
  assert.equal(registration.state(), "registering");
  await untilListed(etcd, registration);
  assert.deepEqual(Object.fromEntries(await etcd.list("book/")), {
    [KEY]: `{"Op":0,"Addr":"${ADVERTISE}","Metadata":{"weight":5}}`,
  });
  const { told } = follow(t, "etcd:///book", etcdAt(etcd.url));
  await until("a resolver to find it", () => told.addresses() === ADVERTISE);
  assert.equal(told.sets[0]?.[0]?.weight, 5);
  await within(registration.stop(), "the stop");
  assert.equal(registration.state(), "withdrawn");
  assert.equal((await etcd.list("book/")).size, 0);
  assert.deepEqual(log.matching({ level: "warn" }), []);
  registration.start();
  assert.equal(registration.state(), "withdrawn");
});

test("etcd: an instance stays listed for longer than its ttl", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const proxy = await proxyForTest(t, etcd);
  const { registration } = registrationForTest(t, "etcd:///book", etcdAt(`http://127.0.0.1:${proxy.port}`));
  registration.start();
  await untilListed(etcd, registration);
  const lease = await leaseOf(etcd);
  const { accepted } = proxy;
  // Two for each renewal, one of them a second: more than four seconds.
  await until("renewals", () => proxy.accepted >= accepted + 10);
  assert.equal(await leaseOf(etcd), lease);
});

test("etcd: after it was killed and is back with its data, the instance is there, and later too", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const { registration, log } = registrationForTest(t, "etcd:///book", etcdAt(etcd.url));
  registration.start();
  await untilListed(etcd, registration);
  await etcd.stop();
  await until("the loss to be seen", () => registration.state() === "registering");
  await etcd.start();
  await log.line({ level: "info", msg: "the registry of etcd:///book is back" });
  await untilListed(etcd, registration);
  assert.equal(log.matching({ level: "warn" }).length, 1);
  await registration.stop();
  assert.equal((await etcd.list("book/")).size, 0);
});

test("etcd: after it was killed and is back without its data, the instance is listed again", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const { registration, log } = registrationForTest(t, "etcd:///book", etcdAt(etcd.url));
  registration.start();
  await untilListed(etcd, registration);
  await etcd.stop();
  await etcd.forget();
  await etcd.start();
  await untilListed(etcd, registration);
  await log.line({ msg: `${ADVERTISE} is registered at etcd:///book again: it was forgotten there` });
  await registration.stop();
  assert.equal((await etcd.list("book/")).size, 0);
});

test("etcd: a lease that is gone, and a key that was deleted, are there again", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const { registration } = registrationForTest(t, "etcd:///book", etcdAt(etcd.url));
  registration.start();
  await untilListed(etcd, registration);
  const lease = await leaseOf(etcd);
  await etcd.call("/v3/lease/revoke", { ID: lease });
  await until("another lease", async () => ![undefined, lease].includes(await leaseOf(etcd)));
  await etcd.delete(KEY);
  await untilListed(etcd, registration);
});

test("etcd: an outage that is longer than the ttl ends with the instance listed", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const proxy = await proxyForTest(t, etcd);
  const { registration } = registrationForTest(t, "etcd:///book", etcdAt(`http://127.0.0.1:${proxy.port}`));
  registration.start();
  await untilListed(etcd, registration);
  await until("no request", () => proxy.connections === 0);
  proxy.refuse();
  await until("the ttl to end", async () => (await etcd.list("book/")).size === 0);
  assert.equal(registration.state(), "registering");
  proxy.accept();
  await untilListed(etcd, registration);
});

test("etcd: a start does not wait for a registry that is down; it is listed when that comes", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  await etcd.stop();
  const { registration, log } = registrationForTest(t, "etcd:///book", etcdAt(etcd.url));
  registration.start();
  await log.line({ level: "warn" });
  assert.equal(registration.state(), "registering");
  await etcd.start();
  await untilListed(etcd, registration);
});

test("etcd: a stop while the registry is down ends all the same, and says what is left", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const proxy = await proxyForTest(t, etcd);
  const { registration, log } = registrationForTest(t, "etcd:///book", etcdAt(`http://127.0.0.1:${proxy.port}`));
  registration.start();
  await untilListed(etcd, registration);
  await until("no request", () => proxy.connections === 0);
  proxy.stall();
  const stopped = registration.stop(AbortSignal.timeout(50));
  assert.equal(registration.stop(), stopped);
  await within(stopped, "the stop");
  assert.equal(registration.state(), "withdrawn");
  const msg = `${ADVERTISE} could not be withdrawn from etcd:///book; it lapses with its ttl`;
  assert.equal(log.matching({ level: "warn", msg }).length, 1);
  // What was held back must not pass.
  proxy.refuse();
  await until("it to lapse", async () => (await etcd.list("book/")).size === 0);
});

test("etcd: a stop before the start, or before the registry was there, leaves nothing", async (t) => {
  const etcd = await etcdForTest(t);
  if (etcd === undefined) return;
  const never = registrationForTest(t, "etcd:///book", etcdAt(etcd.url));
  await within(never.registration.stop(), "the stop");
  const quick = registrationForTest(t, "etcd:///book", etcdAt(etcd.url));
  quick.registration.start();
  await within(quick.registration.stop(), "the stop");
  assert.equal((await etcd.list("book/")).size, 0);
  assert.deepEqual(never.log.lines, []);
});

async function leaseOf(etcd: EtcdForTest): Promise<string | undefined> {
  const key = Buffer.from(KEY, "utf8").toString("base64");
  const { kvs = [] } = (await etcd.call("/v3/kv/range", { key })) as { kvs?: { lease: string }[] };
  return kvs[0]?.lease;
}

test("consul: an instance is registered with a ttl that it passes, and deregistered when it stops", async (t) => {
  const consul = await startFakeConsul();
  t.after(() => consul.stop());
  const discovery = { consul: { address: consul.url(), token: "a-token" } };
  const more = { weight: 5, tags: ["blue"] };
  const { registration } = registrationForTest(t, "consul:///book", discovery, more);
  registration.start();
  await until("a renewal", () => consul.passes() >= 2);
  assert.equal(registration.state(), "registered");
  assert.deepEqual(
    [...consul.services.values()],
    [
      {
        ID: "book-10.0.0.7-9002",
        Name: "book",
        Tags: ["blue"],
        Address: "10.0.0.7",
        Port: 9002,
        Weights: { Passing: 5, Warning: 1 },
        Check: {
          CheckID: "service:book-10.0.0.7-9002",
          Name: "ttl of book-10.0.0.7-9002",
          TTL: "3s",
          Status: "passing",
          DeregisterCriticalServiceAfter: "60s",
        },
      },
    ],
  );
  const { told } = follow(t, "consul:///book?tag=blue", discovery);
  await until("a resolver to find it", () => told.addresses() === ADVERTISE);
  assert.equal(told.sets[0]?.[0]?.weight, 5);
  await within(registration.stop(), "the stop");
  assert.equal(consul.services.size, 0);
  assert.deepEqual([...consul.tokens], ["a-token"]);
});

test("consul: an agent that was restarted without its data has the instance again", async (t) => {
  const consul = await startFakeConsul();
  t.after(() => consul.stop());
  const { registration, log } = registrationForTest(t, "consul:///book", { consul: { address: consul.url() } });
  registration.start();
  await until("it to be registered", () => registration.state() === "registered");
  await consul.stop();
  await until("the loss to be seen", () => registration.state() === "registering");
  consul.set([]);
  await consul.start();
  await until("it to be registered again", () => consul.services.size === 1);
  await log.line({ level: "info", msg: "the registry of consul:///book is back" });
  assert.equal(log.matching({ level: "warn" }).length, 1);
});

test("consul: an agent that forgot only the check has the instance again", async (t) => {
  const consul = await startFakeConsul();
  t.after(() => consul.stop());
  const { registration, log } = registrationForTest(t, "consul:///book", { consul: { address: consul.url() } });
  registration.start();
  await until("it to be registered", () => registration.state() === "registered");
  consul.set([]);
  await until("it to be registered again", () => consul.services.size === 1);
  await log.line({ msg: `${ADVERTISE} is registered at consul:///book again: it was forgotten there` });
  assert.deepEqual(log.matching({ level: "warn" }), []);
});
