import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { until } from "#shared/testing";
import { type FakeConsul, startFakeConsul } from "../test-support/fake-consul.ts";
import { follow } from "../test-support/follow.ts";

async function consulForTest(t: TestContext): Promise<FakeConsul> {
  const consul = await startFakeConsul();
  t.after(() => consul.stop());
  return consul;
}

test("healthy instances are asked for, with tag, datacenter and token", async (t) => {
  const consul = await consulForTest(t);
  consul.set([
    { ID: "1", Name: "book", Address: "10.0.0.1", Port: 1, Tags: ["blue"] },
    { ID: "2", Name: "book", Address: "10.0.0.2", Port: 1, Tags: ["green"] },
    { ID: "3", Name: "user", Address: "10.0.0.3", Port: 1, Tags: ["blue"] },
  ]);
  const discovery = { consul: { address: consul.url(), token: "a-token", datacenter: "dc7" } };
  const { told } = follow(t, "consul:///book?tag=blue", discovery);
  await until("the set", () => told.addresses() === "10.0.0.1:1");
  assert.equal(consul.asked[0], "GET /v1/health/service/book?passing=1&tag=blue&dc=dc7");
  assert.deepEqual([...consul.tokens], ["a-token"]);
});

test("weights are those of passing instances; without an address it is the node's", async (t) => {
  const consul = await consulForTest(t);
  consul.set([
    { ID: "1", Name: "book", Address: "", Port: 1, Weights: { Passing: 5, Warning: 1 } },
    { ID: "2", Name: "book", Address: "fd00::2", Port: 2 },
    { ID: "3", Name: "book", Address: "10.0.0.3", Port: 0 },
  ]);
  const { told } = follow(t, "consul:///book", { consul: { address: consul.url() } });
  await until("the set", () => told.sets.length > 0);
  assert.deepEqual(told.sets[0], [
    { address: "10.9.9.9:1", weight: 5, priority: 0 },
    { address: "[fd00::2]:2", weight: 1, priority: 0 },
  ]);
});

test("questions block on the last index, which begins anew when it goes back", async (t) => {
  const consul = await consulForTest(t);
  consul.set([{ ID: "1", Name: "book", Address: "10.0.0.1", Port: 1 }]);
  const { told } = follow(t, "consul:///book", { consul: { address: consul.url() } });
  await until("a blocking question", () => consul.asked.length === 2);
  assert.equal(consul.asked[1], "GET /v1/health/service/book?passing=1&index=11&wait=60s");
  consul.resetIndex();
  await until("questions from the beginning", () => consul.asked.length >= 4);
  assert.equal(consul.asked[2], "GET /v1/health/service/book?passing=1");
  assert.equal(consul.asked[3], "GET /v1/health/service/book?passing=1&index=1&wait=60s");
  consul.set([{ ID: "2", Name: "book", Address: "10.0.0.2", Port: 1 }]);
  await until("the next set", () => told.addresses() === "10.0.0.2:1");
  assert.deepEqual(told.errors, []);
});

test("an answer that makes no sense is an error that says where", async (t) => {
  const consul = await consulForTest(t);
  consul.set([{ ID: "1", Name: "book", Address: "10.0.0.1", Port: "x" as unknown as number }]);
  const { told } = follow(t, "consul:///book", { consul: { address: consul.url() } });
  await until("an error", () => told.errors.length > 0);
  assert.match(told.errors[0]?.message ?? "", /gave an answer that makes no sense: 0\.Service\.Port: /);
  consul.set([{ ID: "1", Name: "book", Address: "10.0.0.1", Port: 1 }]);
  await until("the set", () => told.addresses() === "10.0.0.1:1");
});
