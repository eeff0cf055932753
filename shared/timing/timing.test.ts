import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { test } from "node:test";
import { bounded, createBackoff, sleep } from "./index.ts";

test("a bounded wait gives the value, the error, or that it overran", async () => {
  assert.deepEqual(await bounded(Promise.resolve(7), 1_000), { kind: "done", value: 7 });
  const failure = new Error("no");
  assert.deepEqual(await bounded(Promise.reject(failure), 1_000), { kind: "failed", cause: failure });
  assert.deepEqual(await bounded(new Promise(() => {}), 1), { kind: "overran" });
  assert.deepEqual(await bounded(new Promise(() => {}), 60_000, AbortSignal.abort()), { kind: "overran" });
});

test("a backoff grows to its maximum with jitter, and starts again after a success", () => {
  const numbers = [0.5, 0, 1, 0.5, 0.5, 0.5];
  const backoff = createBackoff({ initialMs: 100, maxMs: 400, random: () => numbers.shift() ?? 0.5 });
  assert.deepEqual(
    [backoff.next(), backoff.next(), backoff.next(), backoff.next()].map((ms) => Math.round(ms)),
    [100, 160, 480, 400],
  );
  assert.equal(backoff.failures, 4);
  backoff.reset();
  assert.equal(backoff.failures, 0);
  assert.equal(backoff.next(), 100);
});

test("a sleep ends early when its signal fires, and does not reject", async () => {
  assert.equal(await sleep(1), true);
  const controller = new AbortController();
  const sleeping = sleep(60_000, controller.signal);
  controller.abort();
  assert.equal(await sleeping, false);
  assert.equal(await sleep(60_000, AbortSignal.abort()), false);
});

test("a sleep in the background does not keep its process alive", async () => {
  const program = `import { sleep } from "#shared/timing"; void sleep(600_000, undefined, { keepsAlive: false });`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: "inherit" });
  const [code] = await once(child, "exit", { signal: AbortSignal.timeout(60_000) });
  assert.equal(code, 0);
});
