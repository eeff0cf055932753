import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { recordLog, serverConfig } from "#shared/testing";
import { type Admission, createAdmission } from "./admission.ts";
import { createShedLog } from "./shed-log.ts";

const { logger } = recordLog("silent");

function pushbackOf(admission: Admission): number {
  try {
    admission.enter();
  } catch (error) {
    return Number(ConnectError.from(error).metadata.get("grpc-retry-pushback-ms") ?? Number.NaN);
  }
  throw new Error("not refused");
}

test("pushbacks lie within a fifth of shed_pushback, so that callers do not come back together", () => {
  const config = serverConfig({ max_concurrent_calls: 1, shed_pushback: "100ms" });
  let drawn = 0;
  const admission = createAdmission({ config, logger, random: () => drawn })!;
  admission.enter();
  for (const [random, expected] of [
    [0, 80],
    [0.5, 100],
    [0.999_999, 120],
  ] as const) {
    drawn = random;
    assert.equal(pushbackOf(admission), expected);
  }
  admission.stop();
});

test("counting a call out twice makes room once", () => {
  const admission = createAdmission({ config: serverConfig({ max_concurrent_calls: 2 }), logger })!;
  const leave = admission.enter();
  admission.enter();
  leave();
  leave();
  admission.enter();
  assert.ok(pushbackOf(admission) > 0);
  admission.stop();
});

test("without a limit there is no admission", () => {
  assert.equal(createAdmission({ config: serverConfig(), logger }), undefined);
});

test("what was refused is said at once, then every ten seconds as a number, and no more when nothing is", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const log = recordLog();
  const shedLog = createShedLog(log.logger);
  const said = () => log.lines.map(({ shed }) => shed);
  shedLog.add("a");
  assert.deepEqual(said(), [{ a: 1 }]);
  shedLog.add("a");
  shedLog.add("b");
  shedLog.add("a");
  t.mock.timers.tick(9_999);
  assert.deepEqual(said(), [{ a: 1 }]);
  t.mock.timers.tick(1);
  assert.deepEqual(said(), [{ a: 1 }, { a: 2, b: 1 }]);
  t.mock.timers.tick(60_000);
  assert.equal(said().length, 2);
  shedLog.add("b");
  assert.deepEqual(said()[2], { b: 1 });
  shedLog.add("b");
  shedLog.stop();
  assert.deepEqual(said()[3], { b: 1 });
  t.mock.timers.tick(60_000);
  assert.equal(said().length, 4);
});
