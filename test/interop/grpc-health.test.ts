// grpc.health.v1 as @grpc/grpc-js clients and load balancers ask for it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import grpc from "@grpc/grpc-js";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { startServer, until } from "#shared/testing";
import { clientOf, loadService, serverStream, unary } from "../support/grpc-js.ts";
import { repository } from "../support/service-process.ts";

// The package that a grpc-js user would take brings its own proto.
const health = loadService("health/v1/health.proto", "grpc.health.v1.Health", [
  join(repository, "node_modules/grpc-health-check/proto"),
]);

async function start(t: TestContext) {
  const server = await startServer(t, { routes: (router) => router.service(UserService, {}) });
  return { server, client: clientOf(t, health, server.url) };
}

test("Check follows readiness, for the server and for each of its services", async (t) => {
  const { server, client } = await start(t);
  const component = server.readiness.component("database");
  component.ready();
  for (const service of ["", "user.v1.UserService"]) {
    const { response } = await unary(client, "Check", { service });
    assert.equal(response?.["status"], "SERVING", service);
  }
  component.notReady("away");
  const { response } = await unary(client, "Check", { service: "" });
  assert.equal(response?.["status"], "NOT_SERVING");
});

test("Check of a service that is not served is NOT_FOUND", async (t) => {
  const { client } = await start(t);
  const { error } = await unary(client, "Check", { service: "user.v2.UserService" });
  assert.equal(error?.code, grpc.status.NOT_FOUND);
});

test("Watch tells the state, and each change of it", async (t) => {
  const { server, client } = await start(t);
  const component = server.readiness.component("database");
  component.ready();
  const seen: unknown[] = [];
  const watch = serverStream(client, "Watch", { service: "" });
  watch.on("error", () => {});
  watch.on("data", ({ status }) => seen.push(status));
  await until("the first state", () => seen.length === 1);
  component.notReady("away");
  await until("the second", () => seen.length === 2);
  component.ready();
  await until("the third", () => seen.length === 3);
  watch.cancel();
  assert.deepEqual(seen, ["SERVING", "NOT_SERVING", "SERVING"]);
});
