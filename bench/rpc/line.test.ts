import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openLine } from "./line.ts";
import type { ScenarioName } from "./scenarios.ts";
import type { VariantName } from "./variants.ts";

const cases: readonly (readonly [VariantName, ScenarioName])[] = [
  ["raw", "stream-64"],
  ["grpc-js", "unary-10k-64"],
  ["grpc-js-full", "stream-1"],
  ["raw-full", "unary-small-64"],
  ["meridian-grpc-web-h2", "stream-64"],
  ["stock-connect-h1", "stream-1"],
  ["meridian-gateway", "unary-small-64"],
];

describe("the processes of a variant", () => {
  for (const [variant, scenario] of cases) {
    test(`make the calls of ${scenario} by ${variant}, and say what each of them took`, async () => {
      const line = await openLine({ variant, scenario, execArgvOf: () => [] });
      try {
        const { calls, perSecond, cpuMicros, p50Ms, p99Ms } = await line.run({ calls: 70 });
        assert.equal(calls, 70);
        for (const value of [perSecond, cpuMicros.server, cpuMicros.client, p50Ms]) assert.ok(value > 0);
        assert.ok(p99Ms >= p50Ms);
        assert.equal(cpuMicros.gateway !== undefined, variant === "meridian-gateway");
        const { server, client } = await line.memory();
        for (const { rssBytes, heapBytes } of [server, client]) assert.ok(rssBytes > heapBytes && heapBytes > 1e6);
      } finally {
        await line.end();
      }
    });
  }

  test("say why they cannot start", async () => {
    const execArgvOf = () => ["--no-such-option-of-node"];
    await assert.rejects(openLine({ variant: "raw", scenario: "stream-1", execArgvOf }), /the server/);
  });
});
