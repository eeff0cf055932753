// What the bookshop's apps have in common: how they take on a configuration, and when they list themselves.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import type { EventBusStates } from "#shared/event-bus";
import type { App } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { embeddedForTest, recordLog, silent, until } from "#shared/testing";
import { createBookApp } from "../services/book/app.ts";
import { bookConfigSection } from "../services/book/config.ts";
import { createGatewayApp } from "../services/gateway/app.ts";
import { gatewayConfigSection } from "../services/gateway/config.ts";
import { createOrderApp } from "../services/order/app.ts";
import { orderConfigSection } from "../services/order/config.ts";
import { createUserApp } from "../services/user/app.ts";
import { userConfigSection } from "../services/user/config.ts";

const peers = ["user-service", "book-service"].map((name) => ({ name, address: "127.0.0.1:1" }));
const server = { name: "it", host: "127.0.0.1", port: 0 };
const yaml = { server, grpc_clients: { services: peers } };
const embedded = await embeddedForTest();

interface Overrides {
  readonly logger: Logger;
  readonly embedded?: typeof embedded;
}

interface AppOfBookshop<Config> {
  readonly stopTimeoutMs: number;
  ready?(signal: AbortSignal): Promise<void>;
  reconfigure(config: Config): void;
}

/** How to make an app of what a YAML says, and to hand it another one. */
function making<Config>(
  schema: { parse(yaml: object): Config },
  create: (config: Config, overrides: Overrides) => App & AppOfBookshop<Config>,
) {
  return (yaml: object, overrides: Overrides) => {
    const app = create(schema.parse(yaml), overrides);
    return { app, reconfigure: (next: object) => app.reconfigure(schema.parse(next)) };
  };
}

const stored = {
  user: making(userConfigSection, createUserApp),
  book: making(bookConfigSection, createBookApp),
  order: making(orderConfigSection, createOrderApp),
};
const all = { ...stored, gateway: making(gatewayConfigSection, createGatewayApp) };

for (const [name, make] of Object.entries(all)) {
  test(`${name}: a reload warns once of what needs a restart, and of nothing when there is none`, async (t) => {
    const { logger, lines } = recordLog();
    const warned = () => lines.flatMap(({ level, sections }) => (level === "warn" && sections ? [sections] : []));
    const { app, reconfigure } = make(yaml, { logger, embedded });
    t.after(() => app.stop());
    const calls = { grpc_clients: { services: peers.map((peer) => ({ ...peer, timeout: "1s" })) } };
    reconfigure({ ...yaml, ...calls });
    assert.deepEqual(warned(), []);
    reconfigure({ ...yaml, ...calls, server: { ...server, max_timeout: "1s" }, discovery: { empty_grace: "1s" } });
    reconfigure({ ...yaml, log: { level: "debug" } });
    assert.deepEqual(warned(), [["server", "discovery"], ["log"]]);
  });
}

for (const [name, make] of Object.entries(all)) {
  test(`${name}: a stop with a drain_delay of 5 s ends within the 30 s that Kubernetes gives by default`, () => {
    const listed = name !== "gateway" && { registration: { address: "etcd:///it", advertise: "127.0.0.1:1" } };
    const { stopTimeoutMs } = make(
      { ...yaml, ...listed, server: { ...server, drain_delay: "5s", shutdown_timeout: "8s" } },
      { logger: silent, embedded },
    ).app;
    assert.ok(stopTimeoutMs >= 5_000 + 8_000 && stopTimeoutMs < 30_000, `${stopTimeoutMs}`);
  });
}

for (const [name, make] of Object.entries(stored)) {
  test(`${name}: /debug/events on the admin port shows bus and outbox, and what is away`, async (t) => {
    const there = await debugEvents(t, make, {});
    assert.equal(there.bus.kind, "in-process");
    assert.deepEqual(
      there.bus.consumers.map(({ state }) => state),
      there.bus.consumers.map(() => "consuming"),
    );
    assert.equal(there.outbox["pending"], 0);
    const away = await debugEvents(t, make, { database: { url: "postgres://it@127.0.0.1:1/it" } });
    assert.equal(away.bus.kind, "in-process");
    assert.equal(typeof away.outbox["error"], "string");
  });
}

interface DebugEvents {
  readonly bus: EventBusStates;
  readonly outbox: Readonly<Record<string, unknown>>;
}

async function debugEvents(t: TestContext, make: (typeof stored)["user"], more: object): Promise<DebugEvents> {
  const log = recordLog();
  const { app } = make({ ...yaml, ...more }, { logger: log.logger, ...("database" in more ? {} : { embedded }) });
  t.after(() => app.stop());
  await app.start();
  await app.ready?.(AbortSignal.timeout("database" in more ? 1 : 20_000)).catch(() => {});
  const { url } = await log.line({ msg: "admin pages" });
  const response = await fetch(`${url}/debug/events`);
  assert.equal(response.status, 200);
  return (await response.json()) as DebugEvents;
}

/** An agent of Consul that takes everything and answers nothing; what it was asked, in order. */
async function agent(t: TestContext) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url?.replace(/\?.*/, "")}`);
    request.resume();
    response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const registration = { address: "consul:///it", advertise: "127.0.0.1:9999" };
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { asked, yaml: { ...yaml, registration, discovery: { consul: { address } } } };
}

for (const [name, make] of Object.entries(stored)) {
  test(`${name}: it lists itself when it is ready, and not before`, async (t) => {
    const { asked, yaml } = await agent(t);
    const away = make({ ...yaml, database: { url: "postgres://it@127.0.0.1:1/it" } }, { logger: silent });
    await away.app.start();
    await away.app.stop();
    // Not even a withdrawal: there is none without a registration.
    assert.deepEqual(asked, []);

    const ready = make(yaml, { logger: silent, embedded });
    t.after(() => ready.app.stop());
    await ready.app.start();
    await until("it is listed", () => asked.length > 0);
    assert.match(asked[0] ?? "", /^PUT \/v1\/agent\/service\/register/);
    await ready.app.stop();
    assert.match(asked.at(-1) ?? "", /^PUT \/v1\/agent\/service\/deregister/);
  });
}
