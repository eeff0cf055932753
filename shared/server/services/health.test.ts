import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { EchoService, startServer, until } from "#shared/testing";

test("the server and each of its services serve while the app is ready", async (t) => {
  const readiness = createReadiness();
  const database = readiness.component("database");
  const { url } = await startServer(t, { readiness });
  const health = createClient(Health, createGrpcTransport({ baseUrl: url }));
  const statusOf = async (service: string) => (await health.check({ service })).status;

  assert.equal(await statusOf(""), ServingStatus.NOT_SERVING);
  database.ready();
  assert.equal(await statusOf(""), ServingStatus.SERVING);
  assert.equal(await statusOf(EchoService.typeName), ServingStatus.SERVING);
  database.notReady("away");
  assert.equal(await statusOf(EchoService.typeName), ServingStatus.NOT_SERVING);
});

test("readyz names the components and keeps their reasons, which the log tells once a change", async (t) => {
  const readiness = createReadiness();
  const database = readiness.component("database");
  readiness.component("cache").ready();
  const server = await startServer(t, { readiness, config: { drain_delay: "60s" } });
  const readyz = async () => {
    const response = await fetch(`${server.url}/readyz`);
    return { status: response.status, ...((await response.json()) as object) };
  };
  const components = (ready: boolean) => [
    { name: "database", ready },
    { name: "cache", ready: true },
  ];
  const notReady = (level: string) => server.log.matching({ level, msg: "not ready" });

  assert.deepEqual(await readyz(), { status: 503, ready: false, draining: false, components: components(false) });
  assert.deepEqual(notReady("info")[0]?.["components"], [{ name: "database", ready: false, reason: "starting" }]);
  database.ready();
  assert.deepEqual(await readyz(), { status: 200, ready: true, draining: false, components: components(true) });
  assert.equal(server.log.matching({ msg: "ready" }).length, 1);
  const reason = "no login for ada at db.internal";
  database.notReady(reason);
  assert.deepEqual(await readyz(), { status: 503, ready: false, draining: false, components: components(false) });
  database.notReady("still away");
  assert.deepEqual(
    notReady("warn").map((line) => line["components"]),
    [[{ name: "database", ready: false, reason }]],
  );

  database.ready();
  const hurry = new AbortController();
  const stopped = server.stop(hurry.signal);
  assert.deepEqual(await readyz(), { status: 503, ready: false, draining: true, components: components(true) });
  assert.equal(notReady("info")[1]?.["draining"], "shutting down");
  hurry.abort();
  await stopped;
});

test("a list has the server and every service", async (t) => {
  const { url } = await startServer(t);
  const { statuses } = await createClient(Health, createGrpcTransport({ baseUrl: url })).list({});
  assert.deepEqual(Object.keys(statuses).sort(), ["", EchoService.typeName]);
  assert.equal(statuses[""]?.status, ServingStatus.SERVING);
});

test("a check of an unknown service is NOT_FOUND", async (t) => {
  const { url } = await startServer(t);
  const health = createClient(Health, createGrpcTransport({ baseUrl: url }));
  const error = await health.check({ service: "no.Such" }).catch((reason: unknown) => reason);
  assert.equal(ConnectError.from(error).code, Code.NotFound);
});

test("a watch tells the status at once and then each change, once", async (t) => {
  const readiness = createReadiness();
  const database = readiness.component("database");
  const cache = readiness.component("cache");
  const { url } = await startServer(t, { readiness });
  const leaving = new AbortController();
  const seen: ServingStatus[] = [];
  const watching = (async () => {
    const health = createClient(Health, createGrpcTransport({ baseUrl: url }));
    for await (const { status } of health.watch({ service: EchoService.typeName }, { signal: leaving.signal })) {
      seen.push(status);
    }
  })().catch((error: unknown) => ConnectError.from(error).code);

  await until("the first status", () => seen.length === 1);
  database.ready();
  cache.ready();
  await until("the second", () => seen.length === 2);
  cache.notReady("away");
  await until("the third", () => seen.length === 3);
  cache.notReady("still away");
  cache.ready();
  await until("the fourth", () => seen.length === 4);
  const { NOT_SERVING, SERVING } = ServingStatus;
  assert.deepEqual(seen, [NOT_SERVING, SERVING, NOT_SERVING, SERVING]);
  leaving.abort();
  assert.equal(await watching, Code.Canceled);
});

test("a watch of an unknown service says so and stays open", async (t) => {
  const readiness = createReadiness();
  const database = readiness.component("database");
  const { url } = await startServer(t, { readiness });
  const leaving = new AbortController();
  const seen: ServingStatus[] = [];
  let hasEnded = false;
  const health = createClient(Health, createGrpcTransport({ baseUrl: url }));
  const watching = (async () => {
    for await (const { status } of health.watch({ service: "no.Such" }, { signal: leaving.signal })) seen.push(status);
  })()
    .catch(() => {})
    .finally(() => {
      hasEnded = true;
    });
  await until("the first status", () => seen.length === 1);
  database.ready();
  // A round trip on the same connection: what the change could have caused has happened by then.
  await health.check({});
  assert.deepEqual(seen, [ServingStatus.SERVICE_UNKNOWN]);
  assert.equal(hasEnded, false);
  leaving.abort();
  await watching;
});
