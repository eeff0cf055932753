import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { seededRandom } from "#shared/testing";
import { notProcessed } from "../../call/not-processed-error.ts";
import { readPushback } from "./pushback.ts";
import { createRetryBackoff } from "./retry-backoff.ts";
import { createRetryPlan } from "./retry-plan.ts";
import { createRetryThrottle } from "./retry-throttle.ts";
import { chooser, defaultRetry, pushedBack } from "./test-support.ts";

const unavailable = new ConnectError("down", Code.Unavailable);

test("the nth delay is min(backoff · multiplier^(n-1), max_backoff), times 0.8 to 1.2", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = seededRandom(seed);
    const { int } = chooser(random);
    const backoffMs = int(1, 500);
    const config = { backoffMs, multiplier: 1 + random() * 3, maxBackoffMs: backoffMs + int(0, 5_000) };
    const backoff = createRetryBackoff(config, random);
    for (let n = 1; n <= 12; n++) {
      if (int(0, 9) === 0) {
        backoff.reset();
        n = 1;
      }
      const base = Math.min(backoffMs * config.multiplier ** (n - 1), config.maxBackoffMs);
      const delay = backoff.nextDelayMs();
      const slack = base * 1e-9;
      assert.ok(
        delay >= base * 0.8 - slack && delay <= base * 1.2 + slack,
        `seed ${seed}, n ${n}: ${delay} of ${base}`,
      );
    }
  }
});

test("the jitter reaches both of its ends", () => {
  assert.equal(createRetryBackoff(defaultRetry, () => 0).nextDelayMs(), 80);
  assert.ok(Math.abs(createRetryBackoff(defaultRetry, () => 1).nextDelayMs() - 120) < 1e-9);
});

test("the bucket does what gRFC A6 says, for random runs of failures and successes", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const { int, chance } = chooser(seededRandom(seed));
    const maxTokens = int(1, 1_000);
    const tokenRatio = int(1, 2_000) / 1_000;
    const throttle = createRetryThrottle({ maxTokens, tokenRatio });
    let thousandths = maxTokens * 1_000;
    for (let i = 0; i < 2_000; i++) {
      if (chance(0.4)) {
        throttle.failed();
        thousandths = Math.max(0, thousandths - 1_000);
      } else if (chance(0.5)) {
        throttle.succeeded();
        thousandths = Math.min(maxTokens * 1_000, thousandths + Math.round(tokenRatio * 1_000));
      }
      assert.equal(throttle.tokens(), thousandths / 1_000);
      assert.equal(throttle.allows(), thousandths > (maxTokens * 1_000) / 2);
    }
  }
});

test("a pushback is a signed int32 in ASCII; whatever is negative or none forbids to retry", () => {
  for (const [text, expected] of [
    ["0", 0],
    ["250", 250],
    ["2147483647", 2_147_483_647],
    ["2147483648", "never"],
    ["-1", "never"],
    ["", "never"],
    ["soon", "never"],
    ["1.5", "never"],
    ["0x10", "never"],
    ["1e3", "never"],
    ["10, 20", "never"],
    ["99999999999", "never"],
  ] as const) {
    assert.equal(readPushback(new Headers({ "grpc-retry-pushback-ms": text })), expected, text);
  }
  assert.equal(readPushback(new Headers()), undefined);
});

function plan({ retry = defaultRetry, isSafe = true, isRetried = false, maxTokens = 100 } = {}) {
  const throttle = createRetryThrottle({ maxTokens, tokenRatio: 0.1 });
  const policy = isSafe ? { retry } : { unreachableRetry: retry };
  return { throttle, ...createRetryPlan({ policy, config: retry, isRetried, throttle, random: () => 0.5 }) };
}

test("retries grow apart, and end when there were enough; each failure costs a token, the last one too", () => {
  const { delayAfter, throttle } = plan();
  const delays = Array.from({ length: 4 }, () => delayAfter(unavailable, false));
  assert.deepEqual(delays, [100, 200, 400, undefined]);
  assert.equal(throttle.tokens(), 96);
});

test("a pushback is the very delay, even above max_backoff, and the backoff begins again after it", () => {
  const { delayAfter } = plan({ retry: { ...defaultRetry, max: 4 } });
  const failures = [unavailable, unavailable, pushedBack("5000"), unavailable];
  assert.deepEqual(
    failures.map((failure) => delayAfter(failure, false)),
    [100, 200, 5_000, 100],
  );
});

test("a pushback that forbids to retry ends it and costs a token, whatever the code", () => {
  for (const code of [Code.Unavailable, Code.NotFound]) {
    const { delayAfter, throttle } = plan();
    assert.equal(delayAfter(pushedBack("-1", code), false), undefined);
    assert.equal(throttle.tokens(), 99);
  }
});

test("a pushback does not make a code retryable", () => {
  const { delayAfter, throttle } = plan();
  assert.equal(delayAfter(pushedBack("10", Code.NotFound), false), undefined);
  assert.equal(throttle.tokens(), 100);
});

test("retries are made only while the bucket is more than half full", () => {
  const { delayAfter, throttle } = plan({ maxTokens: 4 });
  assert.equal(delayAfter(unavailable, false), 100);
  assert.equal(delayAfter(unavailable, false), undefined);
  assert.equal(throttle.tokens(), 2);
});

test("without a connection an attempt may be repeated whatever the method does, and costs nothing", () => {
  for (const isSafe of [true, false]) {
    const { delayAfter, throttle } = plan({ isSafe, retry: { ...defaultRetry, codes: [Code.Aborted] } });
    assert.equal(delayAfter(notProcessed("unreachable", "no connection"), false), 100);
    assert.equal(throttle.tokens(), 100);
  }
});

test("an attempt that the peer refused may be repeated too, and costs a token", () => {
  const { delayAfter, throttle } = plan({ isSafe: false });
  assert.equal(delayAfter(notProcessed("refused", "REFUSED_STREAM"), false), 100);
  assert.equal(throttle.tokens(), 99);
});

test("a method that must not be sent twice is not, whatever the peer answers", () => {
  const { delayAfter, throttle } = plan({ isSafe: false });
  for (const failure of [unavailable, pushedBack("10"), pushedBack("-1")]) {
    assert.equal(delayAfter(failure, false), undefined);
  }
  assert.equal(throttle.tokens(), 100);
});

test("what a policy here has refused is not retried", () => {
  const { delayAfter, throttle } = plan();
  assert.equal(delayAfter(notProcessed("rejected", "breaker"), false), undefined);
  assert.equal(throttle.tokens(), 100);
});

test("an attempt that was given up is a retryable failure, whatever its code", () => {
  const { delayAfter, throttle } = plan();
  assert.equal(delayAfter(new ConnectError("late", Code.DeadlineExceeded), true), 100);
  assert.equal(throttle.tokens(), 99);
});

test("within a retried chain failures count against the throttle and are final", () => {
  const { delayAfter, throttle } = plan({ isRetried: true });
  assert.equal(delayAfter(unavailable, false), undefined);
  assert.equal(throttle.tokens(), 99);
});
