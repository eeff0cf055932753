import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { outlierSection } from "../../config/outlier.ts";
import { recordingLogger } from "../../test-support.ts";
import { createOutlierSweep } from "./outlier-sweep.ts";

function start(t: TestContext) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { logger, lines } = recordingLogger();
  let changes = 0;
  const config = outlierSection.parse({
    interval: "1s",
    base_ejection_time: "1ms",
    failure_percentage: { min_hosts: 1, request_volume: 1 },
  });
  const sweep = createOutlierSweep({
    config,
    random: Math.random,
    logger,
    service: "book-service",
    onChange: () => changes++,
  });
  t.after(() => sweep.stop());
  return { sweep, lines, changes: () => changes };
}

test("nothing is kept of a peer that is alone, however often its address changes", (t) => {
  const { sweep } = start(t);
  for (const address of ["a", "b", "c"]) {
    sweep.watch([address]);
    sweep.record(address, false);
    t.mock.timers.tick(1_000);
    assert.equal(sweep.isEjected(address), false);
  }
  assert.equal(sweep.states().size, 0);
});

test("each interval peers are ejected or return, which is told to the log and to whoever chooses among them", (t) => {
  const { sweep, lines, changes } = start(t);
  sweep.watch(["a", "b"]);
  sweep.record("a", false);
  sweep.record("b", true);
  t.mock.timers.tick(999);
  assert.equal(changes(), 0);
  t.mock.timers.tick(1);
  assert.equal(changes(), 1);
  assert.equal(sweep.isEjected("a"), true);
  const [ejection] = lines;
  assert.equal(ejection?.level, "warn");
  assert.deepEqual([ejection?.peer, ejection?.successes, ejection?.failures], ["a", 0, 1]);
});

test("what is known of peers that are gone is forgotten, and after stop nobody is judged", (t) => {
  const { sweep, changes } = start(t);
  sweep.watch(["a", "b"]);
  sweep.record("a", false);
  sweep.watch(["b", "c"]);
  t.mock.timers.tick(1_000);
  assert.deepEqual([...sweep.states().keys()], ["b", "c"]);
  sweep.stop();
  sweep.record("b", false);
  t.mock.timers.tick(10_000);
  assert.equal(changes(), 0);
});
