import assert from "node:assert/strict";
import { test } from "node:test";
import { dnsmasqForTest, until } from "#shared/testing";
import { SERVFAIL, startFakeNameServer } from "../test-support/fake-name-server.ts";
import { follow } from "../test-support/follow.ts";

const SERVICE = "_grpc._tcp.book.test";

test("without a server a name is what the system says, /etc/hosts too", async (t) => {
  const { told } = follow(t, "dns:///localhost:9002", {});
  await until("the set", () => told.sets.length > 0);
  assert.match(told.addresses() ?? "", /^(?:127\.0\.0\.1:9002|\[::1\]:9002)/);
});

test("an IP address is its own, with a server or without", async (t) => {
  const alone = follow(t, "dns:///[::1]:9002", {});
  const served = follow(t, "dns://127.0.0.1:1/10.0.0.7:9002", {});
  await until("the sets", () => alone.told.sets.length > 0 && served.told.sets.length > 0);
  assert.equal(alone.told.addresses(), "[::1]:9002");
  assert.equal(served.told.addresses(), "10.0.0.7:9002");
});

test("a name server can be given by its name", async (t) => {
  const dnsmasq = await dnsmasqForTest(t, { hosts: { "book.test": ["10.0.0.1"] } });
  if (dnsmasq === undefined) return;
  const server = dnsmasq.server.replace("127.0.0.1", "localhost");
  const { told } = follow(t, `dns://${server}/book.test:1`, {});
  await until("the set", () => told.addresses() === "10.0.0.1:1");
});

test("a name that does not exist is an empty set, and an error that says why", async (t) => {
  const dnsmasq = await dnsmasqForTest(t);
  if (dnsmasq === undefined) return;
  const host = follow(t, `dns://${dnsmasq.server}/nobody.test:1`, {});
  const service = follow(t, `srv://${dnsmasq.server}/_grpc._tcp.nobody.test`, {});
  await until("the errors", () => host.told.errors.length > 0 && service.told.errors.length > 0);
  assert.deepEqual(host.told.sets, [[]]);
  assert.equal(host.told.errors[0]?.message, "DNS knows no addresses of nobody.test");
  assert.deepEqual(service.told.sets, [[]]);
  assert.equal(service.told.errors[0]?.message, "DNS knows no SRV records of _grpc._tcp.nobody.test");
});

test("a server that will not answer knows nothing: that is no empty set", async (t) => {
  const dnsmasq = await dnsmasqForTest(t);
  if (dnsmasq === undefined) return;
  // dnsmasq refuses what is not below "test".
  const { told } = follow(t, `dns://${dnsmasq.server}/book.example:1`, {});
  await until("an error", () => told.errors.length > 0);
  assert.match(told.errors[0]?.message ?? "", /^DNS cannot say what book\.example is: .*EREFUSED/);
  assert.equal(told.sets.length, 0);
});

for (const [what, half] of [
  ["IPv4", { a: SERVFAIL, aaaa: [[0xfd, ...Array<number>(14).fill(0), 1]] }],
  ["IPv6", { a: [[10, 0, 0, 1]], aaaa: SERVFAIL }],
] as const) {
  test(`while nobody can say what the ${what} addresses are, the set stays as it was`, async (t) => {
    const names = await startFakeNameServer();
    t.after(() => names.close());
    const whole = { a: [[10, 0, 0, 1]], aaaa: [[0xfd, ...Array<number>(14).fill(0), 1]] };
    names.answer(whole);
    const { told } = follow(t, `dns://${names.address}/book.test:1`, { dns: { refresh_interval: "100ms" } });
    await until("the set", () => told.addresses() === "10.0.0.1:1,[fd00::1]:1");
    names.answer(half);
    await until("an error", () => told.errors.length > 0);
    assert.match(told.errors[0]?.message ?? "", /^DNS cannot say what book\.test is: .*ESERVFAIL/);
    assert.equal(told.sets.length, 1);
    names.answer({ a: whole.a, aaaa: [] });
    await until("the next set", () => told.addresses() === "10.0.0.1:1");
  });
}

test("a server that knows nothing of IPv6 does not hide what it knows of IPv4", async (t) => {
  const names = await startFakeNameServer();
  t.after(() => names.close());
  names.answer({ a: [[10, 0, 0, 1]], aaaa: SERVFAIL });
  const { told } = follow(t, `dns://${names.address}/book.test:1`, { dns: { refresh_interval: "100ms" } });
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  names.answer({ a: [[10, 0, 0, 2]], aaaa: SERVFAIL });
  await until("the next set", () => told.addresses() === "10.0.0.2:1");
  assert.deepEqual(told.errors, []);
});

test("SRV records bring priorities and weights; a weight of 0 gets some, and hosts share theirs", async (t) => {
  const dnsmasq = await dnsmasqForTest(t, {
    hosts: { "a.test": ["10.0.0.1"], "b.test": ["10.0.0.2", "fd00::2"], "c.test": ["10.0.0.3"] },
    srv: [
      { name: SERVICE, target: "a.test", port: 1, priority: 1, weight: 60 },
      { name: SERVICE, target: "b.test", port: 2, priority: 1, weight: 30 },
      { name: SERVICE, target: "c.test", port: 3, priority: 2, weight: 0 },
    ],
  });
  if (dnsmasq === undefined) return;
  const { told } = follow(t, `srv://${dnsmasq.server}/${SERVICE}`, {});
  await until("the set", () => told.sets.length > 0);
  assert.deepEqual(
    told.sets[0]?.toSorted((a, b) => a.address.localeCompare(b.address)),
    [
      { address: "[fd00::2]:2", weight: 15, priority: 1 },
      { address: "10.0.0.1:1", weight: 60, priority: 1 },
      { address: "10.0.0.2:2", weight: 15, priority: 1 },
      { address: "10.0.0.3:3", weight: 1, priority: 2 },
    ],
  );
});

test("a host of SRV records that cannot be looked up does not hide the others", async (t) => {
  const dnsmasq = await dnsmasqForTest(t, {
    hosts: { "a.test": ["10.0.0.1"] },
    srv: [
      { name: SERVICE, target: "a.test", port: 1 },
      { name: SERVICE, target: "b.example", port: 2 },
      { name: SERVICE, target: "missing.test", port: 3 },
    ],
  });
  if (dnsmasq === undefined) return;
  const { told } = follow(t, `srv://${dnsmasq.server}/${SERVICE}`, {});
  await until("the set", () => told.addresses() === "10.0.0.1:1");
});

test("a host of SRV records that cannot be looked up any more keeps its last addresses", async (t) => {
  const srv = [
    { name: SERVICE, target: "a.test", port: 1 },
    // dnsmasq refuses what is not below "test", unless it knows it.
    { name: SERVICE, target: "b.example", port: 2 },
  ];
  const dnsmasq = await dnsmasqForTest(t, { hosts: { "a.test": ["10.0.0.1"], "b.example": ["10.0.0.2"] }, srv });
  if (dnsmasq === undefined) return;
  const { told } = follow(t, `srv://${dnsmasq.server}/${SERVICE}`, { dns: { refresh_interval: "100ms" } });
  await until("the set", () => told.addresses() === "10.0.0.1:1,10.0.0.2:2");
  await dnsmasq.serve({ hosts: { "a.test": ["10.0.0.3"] }, srv });
  await until("the next set", () => told.addresses() === "10.0.0.2:2,10.0.0.3:1");
});

test("an SRV record of the root says that there is no such service", async (t) => {
  const dnsmasq = await dnsmasqForTest(t, { srv: [{ name: SERVICE, target: ".", port: 1 }] });
  if (dnsmasq === undefined) return;
  const { told } = follow(t, `srv://${dnsmasq.server}/${SERVICE}`, {});
  await until("the set", () => told.sets.length > 0);
  assert.deepEqual(told.sets, [[]]);
});

test("refreshes do not look more often than min_refresh", async (t) => {
  const dnsmasq = await dnsmasqForTest(t, { hosts: { "book.test": ["10.0.0.1"] } });
  if (dnsmasq === undefined) return;
  const address = `dns://${dnsmasq.server}/book.test:1`;
  const { resolver, told } = follow(t, address, { dns: { refresh_interval: "1h" }, min_refresh: "1h" });
  await until("the set", () => told.sets.length === 1);
  for (let i = 0; i < 10; i++) resolver.refresh();
  // By the time that another one has its answer, these would have been asked for.
  const other = follow(t, address, {});
  await until("the other set", () => other.told.sets.length === 1);
  // Two for each look: A and AAAA.
  await until("all questions to be counted", () => dnsmasq.questions() >= 4);
  assert.equal(dnsmasq.questions(), 4);
});
