import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  closeAfter,
  dnsmasqForTest,
  etcdForTest,
  type RecordedLog,
  recordLog,
  startTcpProxy,
  until,
} from "#shared/testing";
import type { Resolver } from "./index.ts";
import { startFakeConsul } from "./test-support/fake-consul.ts";
import { startFakeKubernetes } from "./test-support/fake-kubernetes.ts";
import { follow as startFollowing } from "./test-support/follow.ts";
import type { Recorder } from "./test-support/recorder.ts";

/** What all of them list: hosts of port 9002. */
const PORT = 9002;
const A = "10.0.0.1";
const B = "10.0.0.2";
const C = "fd00::3";

interface Registry {
  readonly address: string;
  readonly discovery: object;
  /** Lists exactly these hosts. */
  list(hosts: readonly string[]): Promise<void>;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Of the resolver with the registry; undefined where they cannot be counted. */
  connections?(): number;
}

/** Undefined when the test is skipped. */
type StartRegistry = (t: TestContext) => Promise<Registry | undefined>;

const registries: Readonly<Record<string, StartRegistry>> = {
  async etcd(t) {
    const etcd = await etcdForTest(t);
    if (etcd === undefined) return undefined;
    const proxy = await startTcpProxy({ port: etcd.port });
    // A socket that is reset while it is ending is never closed (Node 24).
    closeAfter(t, async () => {
      await etcd.stop();
      await until("no connection", () => proxy.connections === 0);
      await proxy.close();
    });
    return {
      address: "etcd:///book",
      discovery: { etcd: { endpoints: [`http://127.0.0.1:${proxy.port}`] } },
      async list(hosts) {
        const addresses = hosts.map(withPort);
        const keys = new Set((await etcd.list("book/")).keys());
        for (const address of addresses) {
          if (!keys.delete(`book/${address}`)) await etcd.put(`book/${address}`, `{"Op":0,"Addr":"${address}"}`);
        }
        for (const key of keys) await etcd.delete(key);
      },
      stop: () => etcd.stop(),
      start: () => etcd.start(),
      connections: () => proxy.connections,
    };
  },
  async dns(t) {
    const dnsmasq = await dnsmasqForTest(t);
    if (dnsmasq === undefined) return undefined;
    return {
      address: `dns://${dnsmasq.server}/book.test:${PORT}`,
      discovery: { dns: { refresh_interval: "100ms" } },
      list: (hosts) => dnsmasq.serve({ hosts: { "book.test": hosts } }),
      stop: () => dnsmasq.stop(),
      start: () => dnsmasq.start(),
    };
  },
  async srv(t) {
    const dnsmasq = await dnsmasqForTest(t);
    if (dnsmasq === undefined) return undefined;
    const name = "_grpc._tcp.book.test";
    return {
      address: `srv://${dnsmasq.server}/${name}`,
      discovery: { dns: { refresh_interval: "100ms" } },
      list: (hosts) =>
        dnsmasq.serve({
          hosts: Object.fromEntries(hosts.map((host, index) => [`book-${index}.test`, [host]])),
          srv: hosts.map((_, index) => ({ name, target: `book-${index}.test`, port: PORT, weight: 1 })),
        }),
      stop: () => dnsmasq.stop(),
      start: () => dnsmasq.start(),
    };
  },
  async consul(t) {
    const consul = await startFakeConsul();
    t.after(() => consul.stop());
    return {
      address: "consul:///book",
      discovery: { consul: { address: consul.url() } },
      async list(hosts) {
        consul.set(hosts.map((host) => ({ ID: host, Name: "book", Address: host, Port: PORT })));
      },
      stop: () => consul.stop(),
      start: () => consul.start(),
      connections: () => consul.connections(),
    };
  },
  async k8s(t) {
    const kubernetes = await startFakeKubernetes("shop");
    t.after(() => kubernetes.stop());
    return {
      address: "k8s:///book.shop:grpc",
      discovery: { k8s: { api_server: kubernetes.url() } },
      async list(hosts) {
        const ports = [{ name: "grpc", port: PORT }];
        const endpoints = hosts.map((address) => ({ address, ready: true }));
        kubernetes.put({ name: "book-1", service: "book", ports, endpoints });
      },
      stop: () => kubernetes.stop(),
      start: () => kubernetes.start(),
      connections: () => kubernetes.connections(),
    };
  },
};

interface Followed {
  readonly told: Recorder;
  readonly log: RecordedLog;
  readonly resolver: Resolver;
}

/** Starts a resolver of the registry's service. */
function follow(t: TestContext, registry: Registry, discovery: object = {}): Followed {
  const log = recordLog();
  return { log, ...startFollowing(t, registry.address, { ...registry.discovery, ...discovery }, log.logger) };
}

function withPort(host: string): string {
  return host.includes(":") ? `[${host}]:${PORT}` : `${host}:${PORT}`;
}

async function untilTold({ told }: Followed, hosts: readonly string[]): Promise<void> {
  const expected = hosts.map(withPort).toSorted().join();
  await until(`${JSON.stringify(expected)}, last ${told.addresses()}`, () => told.addresses() === expected);
}

for (const [scheme, startRegistry] of Object.entries(registries)) {
  const contract = (what: string, body: (t: TestContext, registry: Registry) => Promise<void>) =>
    test(`${scheme}: ${what}`, async (t) => {
      const registry = await startRegistry(t);
      if (registry !== undefined) await body(t, registry);
    });

  contract("the first set is told, IPv6 in brackets, with weight 1 and priority 0", async (t, registry) => {
    await registry.list([A, C]);
    const followed = follow(t, registry);
    await untilTold(followed, [A, C]);
    const { sets, errors } = followed.told;
    assert.equal(sets.length, 1);
    assert.deepEqual(
      sets[0]?.toSorted((a, b) => a.address.localeCompare(b.address)),
      [
        { address: `[${C}]:${PORT}`, weight: 1, priority: 0 },
        { address: `${A}:${PORT}`, weight: 1, priority: 0 },
      ],
    );
    assert.deepEqual(errors, []);
  });

  contract("changes are told, each once", async (t, registry) => {
    await registry.list([A]);
    const followed = follow(t, registry);
    await untilTold(followed, [A]);
    await registry.list([A, B]);
    await untilTold(followed, [A, B]);
    await registry.list([B]);
    await untilTold(followed, [B]);
    assert.equal(followed.told.sets.length, 3);
  });

  contract("a registry that is gone leaves the last set; when it is back, changes are told", async (t, registry) => {
    await registry.list([A, B]);
    const followed = follow(t, registry);
    await untilTold(followed, [A, B]);
    await registry.stop();
    const { told, log } = followed;
    await until("some failures", () => told.errors.length >= 2);
    assert.equal(told.sets.length, 1);
    assert.equal(log.matching({ level: "warn" }).length, 1);
    assert.match(log.matching({ level: "warn" })[0]?.msg ?? "", /cannot be used; its last endpoints stay$/);
    await registry.start();
    await log.line({ level: "info", msg: `the registry of ${registry.address} is back` });
    await registry.list([B]);
    await untilTold(followed, [B]);
    assert.equal(told.sets.length, 2);
  });

  contract("a registry that is down at the start is an error, until it is there", async (t, registry) => {
    await registry.list([A]);
    await registry.stop();
    const followed = follow(t, registry);
    await until("an error", () => followed.told.errors.length > 0);
    assert.equal(followed.told.sets.length, 0);
    assert.match(followed.told.errors[0]?.message ?? "", /ECONNREFUSED|ECONNRESET/);
    await registry.start();
    await untilTold(followed, [A]);
  });

  contract("a list that becomes empty is not believed at once", async (t, registry) => {
    await registry.list([A]);
    const followed = follow(t, registry, { empty_grace: "1h" });
    await untilTold(followed, [A]);
    await registry.list([]);
    const msg = `${registry.address} lists no endpoints any more; the last ones stay for a while`;
    assert.equal((await followed.log.line({ level: "warn", msg }))["kept"], 1);
    await registry.list([B]);
    await untilTold(followed, [B]);
    assert.equal(followed.told.sets.length, 2);
  });

  contract("a list that stays empty is believed after empty_grace", async (t, registry) => {
    await registry.list([A]);
    const followed = follow(t, registry, { empty_grace: "50ms" });
    await untilTold(followed, [A]);
    await registry.list([]);
    await untilTold(followed, []);
    assert.equal(followed.told.sets.length, 2);
    await registry.list([B]);
    await untilTold(followed, [B]);
  });

  contract("a list that is empty from the start is told at once", async (t, registry) => {
    await registry.list([]);
    const followed = follow(t, registry, { empty_grace: "1h" });
    await untilTold(followed, []);
    assert.equal(followed.told.sets.length, 1);
  });

  contract("a refresh looks again, though nothing is due", async (t, registry) => {
    await registry.list([A]);
    const followed = follow(t, registry, { dns: { refresh_interval: "1h" }, min_refresh: "10ms" });
    await untilTold(followed, [A]);
    await registry.list([B]);
    followed.resolver.refresh();
    await untilTold(followed, [B]);
  });

  contract("after stop nothing is told, and no connection is left", async (t, registry) => {
    await registry.list([A]);
    const stopped = follow(t, registry);
    await untilTold(stopped, [A]);
    stopped.resolver.stop();
    stopped.resolver.refresh();
    stopped.resolver.start(stopped.told);
    await until("its connections to end", () => (registry.connections?.() ?? 0) === 0);
    // By the time that another one is told, this one would have been.
    const other = follow(t, registry);
    await untilTold(other, [A]);
    await registry.list([B]);
    await untilTold(other, [B]);
    assert.equal(stopped.told.sets.length, 1);
    assert.deepEqual(stopped.told.errors, []);
    other.resolver.stop();
    await until("all connections to end", () => (registry.connections?.() ?? 0) === 0);
  });
}
