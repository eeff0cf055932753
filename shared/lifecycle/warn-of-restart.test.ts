import assert from "node:assert/strict";
import { test } from "node:test";
import { recordLog } from "#shared/testing";
import { warnOfRestart } from "./index.ts";

test("one line names the parts of a configuration that need a restart, and there is none without such parts", () => {
  const { logger, lines } = recordLog();
  const inForce = { server: { port: 1 }, grpcClients: [] as string[], watchIntervalMs: 5 };
  const warn = (next: typeof inForce) => warnOfRestart({ logger, inForce, next, taken: ["grpcClients"] });
  warn({ ...inForce, grpcClients: ["a"] });
  assert.deepEqual(lines, []);
  warn({ server: { port: 2 }, grpcClients: ["a"], watchIntervalMs: 6 });
  assert.deepEqual(
    lines.map(({ level, sections }) => [level, sections]),
    [["warn", ["server", "watch_interval"]]],
  );
});
