import assert from "node:assert/strict";
import { test } from "node:test";
import { createRecovery } from "./recovery.ts";

test("a peer begins anew with each connection that replaces a lost one, and not with one more beside others", () => {
  const hasRecovered = createRecovery();
  assert.equal(hasRecovered("connecting", true, 0), false);
  assert.equal(hasRecovered("ready", true, 1), true);
  assert.equal(hasRecovered("ready", true, 2), false);
  assert.equal(hasRecovered("idle", true, 3), false);
  assert.equal(hasRecovered("transient_failure", true, 4), false);
  assert.equal(hasRecovered("ready", true, 5), true);
});

test("a peer begins anew when it answers after a silence of a second, and not after a shorter one", () => {
  const hasRecovered = createRecovery();
  hasRecovered("ready", true, 0);
  assert.equal(hasRecovered("ready", false, 1_000), false);
  assert.equal(hasRecovered("ready", true, 1_999), false);
  assert.equal(hasRecovered("ready", false, 3_000), false);
  assert.equal(hasRecovered("ready", false, 4_000), false);
  assert.equal(hasRecovered("ready", true, 5_000), true);
  assert.equal(hasRecovered("ready", true, 9_000), false);
});
