import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { seededRandom } from "#shared/testing";
import { retryInterceptor } from "./retry.ts";
import { createRetryThrottle } from "./retry-throttle.ts";
import {
  callOf,
  chooser,
  deadlineSignal,
  defaultRetry,
  failureOf,
  fakeClock,
  pushedBack,
  type Step,
  scriptedPeer,
  unaryAnswer,
  unaryRequest,
} from "./test-support.ts";

const safe = { retry: defaultRetry };

test("for random failures: attempts, delays and tokens are those of gRFC A6, and nothing begins after the end", async (t) => {
  for (let seed = 1; seed <= 150; seed++) {
    const random = seededRandom(seed);
    const { int, of, chance } = chooser(random);
    const retry = { ...defaultRetry, max: int(1, 4), timeoutMs: of(300, 10_000), backoffMs: int(1, 200) };
    const pushbacks: (number | undefined)[] = [];
    const script = Array.from({ length: 6 }, (): Step => {
      const pushback = chance(0.3) ? int(0, 400) : undefined;
      const isOk = chance(0.15);
      pushbacks.push(pushback);
      return {
        afterMs: int(0, 100),
        with: isOk ? "ok" : pushback === undefined ? Code.Unavailable : pushedBack(String(pushback)),
      };
    });
    const clock = fakeClock(t);
    const throttle = createRetryThrottle({ maxTokens: of(4, 1_000), tokenRatio: 0.1 });
    const before = throttle.tokens();
    const peer = scriptedPeer(clock, ...(script as [Step, ...Step[]]));
    const deadlineMs = clock.now() + int(1, 1_500);
    const req = unaryRequest(callOf({ retry }, deadlineMs), { signal: deadlineSignal(deadlineMs - clock.now()) });
    const outcome = await clock.run(
      retryInterceptor({ throttle, random, now: clock.now })(peer.next)(req).then(
        () => "ok",
        () => "failed",
      ),
    );
    const times = peer.times();
    const note = `seed ${seed}`;
    assert.ok(times.length <= retry.max + 1, note);
    assert.ok(clock.now() <= deadlineMs, note);
    let sinceReset = 0;
    for (const [index, at] of times.entries()) {
      assert.equal(
        peer.sends[index]?.header.get("grpc-previous-rpc-attempts"),
        index === 0 ? null : String(index),
        note,
      );
      assert.ok(at < deadlineMs && at < 1_000 + retry.timeoutMs, note);
      if (index === 0) continue;
      const failedAt = times[index - 1]! + (script[index - 1]?.afterMs ?? 0);
      const pushback = pushbacks[index - 1];
      if (pushback !== undefined) {
        assert.ok(Math.abs(at - failedAt - pushback) < 1e-6, note);
        sinceReset = 0;
      } else {
        const base = Math.min(retry.backoffMs * retry.multiplier ** sinceReset, retry.maxBackoffMs);
        assert.ok(at - failedAt >= base * 0.8 - 1e-6 && at - failedAt <= base * 1.2 + 1e-6, note);
        sinceReset++;
      }
    }
    const failures = times.length - (outcome === "ok" ? 1 : 0);
    // The last may have been overtaken by the deadline, and then says nothing of the peer.
    const spent = Math.round((before - throttle.tokens()) * 1_000) / 1_000;
    if (before > 10)
      assert.ok(outcome === "ok" ? spent <= failures : spent === failures || spent === failures - 1, note);
    assert.ok(throttle.tokens() >= before / 2 - 1, note);
    await clock.advance(20_000);
    assert.equal(peer.sends.length, times.length, note);
    t.mock.restoreAll();
  }
});

test("a storm of calls to a peer that always fails stays within 1.1 of the offered load once the bucket is dry", async (t) => {
  for (let seed = 1; seed <= 5; seed++) {
    const clock = fakeClock(t);
    const throttle = createRetryThrottle({ maxTokens: 100, tokenRatio: 0.1 });
    const { next, sends } = scriptedPeer(clock, { with: Code.Unavailable });
    const call = retryInterceptor({ throttle, random: seededRandom(seed), now: clock.now })(next);
    const { int } = chooser(seededRandom(seed));
    let sentWhenDry: number | undefined;
    let offeredWhenDry = 0;
    const offered = 1_500;
    const work: Promise<unknown>[] = [];
    for (let i = 0; i < offered; i++) {
      work.push(failureOf(call(unaryRequest(callOf(safe)))));
      await clock.advance(int(0, 10));
      if (sentWhenDry === undefined && !throttle.allows()) {
        sentWhenDry = sends.length;
        offeredWhenDry = i + 1;
      }
    }
    await clock.run(Promise.all(work));
    assert.ok(sentWhenDry !== undefined && offeredWhenDry < 100);
    // Retries that were waiting when it ran dry are still made: they were allowed.
    const waiting = offeredWhenDry;
    const after = sends.length - sentWhenDry;
    assert.ok(after <= (offered - offeredWhenDry) * 1.1 + waiting, `seed ${seed}: ${after}`);
    t.mock.restoreAll();
  }
});

test("a storm of calls to a peer that mostly fails gets no more retries than its successes pay for", async (t) => {
  for (let seed = 1; seed <= 3; seed++) {
    const clock = fakeClock(t);
    const { chance } = chooser(seededRandom(seed));
    const throttle = createRetryThrottle({ maxTokens: 10, tokenRatio: 0.1 });
    let sent = 0;
    const call = retryInterceptor({ throttle, random: seededRandom(seed), now: clock.now })(async () => {
      sent++;
      if (chance(0.9)) throw new ConnectError("down", Code.Unavailable);
      return unaryAnswer();
    });
    const offered = 2_000;
    for (let i = 0; i < offered; i++) await clock.run(call(unaryRequest(callOf(safe))).catch(() => {}));
    assert.ok(sent <= offered * 1.1, `seed ${seed}: ${sent}`);
    t.mock.restoreAll();
  }
});
