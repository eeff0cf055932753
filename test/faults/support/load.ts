import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { until, within } from "#shared/testing";

/** Callers that call one time after the other until they are told to stop. */
export interface Load {
  /** How many calls have ended so far, well or not. */
  readonly calls: number;
  /** Waits until so many more have ended. */
  more(count: number): Promise<void>;
  /** How many ms all but the slowest took, of the calls begun between two moments of `performance.now()`: 0.99 is the p99. */
  quantile(share: number, fromMs: number, toMs: number): number;
  /** How many failed, by their code. */
  failures(): Readonly<Record<string, number>>;
  /** Ends it; answers when the last call has ended. */
  stop(): Promise<void>;
}

export interface LoadOptions {
  /** How many callers there are. Default 20. */
  readonly callers?: number;
  /**
   * What each waits between its calls. Default 40 ms, some 400 calls a second: callers that never wait would only find out
   * how the machine behaves when it has too much to do, and under node:test each call costs more than a millisecond.
   */
  readonly pauseMs?: number;
}

const MORE_TIMEOUT_MS = 20_000;

/** Whoever starts it stops it. Failures are counted and end nothing. */
export function startLoad(call: (n: number) => Promise<unknown>, options: LoadOptions = {}): Load {
  const { callers = 20, pauseMs = 40 } = options;
  const failures = new Map<string, { count: number; readonly message: string }>();
  const times: { readonly beganAt: number; readonly ms: number }[] = [];
  let isOver = false;
  let begun = 0;

  async function callOn(): Promise<void> {
    while (!isOver) {
      const beganAt = performance.now();
      try {
        await call(begun++);
      } catch (error) {
        const { code, message } = ConnectError.from(error);
        const failure = failures.get(Code[code]) ?? { count: 0, message };
        failure.count++;
        failures.set(Code[code], failure);
      }
      times.push({ beganAt, ms: performance.now() - beganAt });
      await delay(pauseMs);
    }
  }

  const running = Promise.all(Array.from({ length: callers }, callOn));
  return {
    get calls() {
      return times.length;
    },
    async more(count) {
      const enough = times.length + count;
      await until(`${count} more calls`, () => times.length >= enough, MORE_TIMEOUT_MS);
    },
    quantile(share, fromMs, toMs) {
      const sorted = times
        .filter(({ beganAt }) => beganAt >= fromMs && beganAt < toMs)
        .map(({ ms }) => ms)
        .toSorted((one, other) => one - other);
      return sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
    },
    failures: () =>
      Object.fromEntries([...failures].map(([code, { count, message }]) => [`${code}, such as: ${message}`, count])),
    async stop() {
      isOver = true;
      await within(running, "the last calls", MORE_TIMEOUT_MS);
    },
  };
}

/** Ends the load, and holds that none of its calls failed. */
export async function assertNoFailures(load: Load): Promise<void> {
  await load.stop();
  const failures = load.failures();
  assert.deepEqual(failures, {}, `failures of ${load.calls} calls: ${JSON.stringify(failures, undefined, 2)}`);
}
