import { quantile } from "../../support/rounds.ts";
import { startStopwatch } from "../../support/stopwatch.ts";
import { greet, LARGE_NAME, MESSAGES_A_STREAM, SMALL_NAME } from "../peers/answers.ts";
import type { PeerClient } from "../peers/peer.ts";
import type { Scenario } from "../scenarios.ts";
import type { Limit, Load } from "./messages.ts";

/** Makes one call, and resolves to how many operations that was. @throws Error when the answer is not the right one */
export type Call = () => Promise<number>;

export function callOf(client: PeerClient, kind: Scenario["kind"]): Call {
  if (kind === "stream") {
    return async () => {
      const messages = await client.watchOrder("o-1");
      if (messages !== MESSAGES_A_STREAM) throw new Error(`${messages} messages came, of ${MESSAGES_A_STREAM}`);
      return messages;
    };
  }
  const name = kind === "small" ? SMALL_NAME : LARGE_NAME;
  const { length } = greet(name);
  return async () => {
    const text = await client.sayHello(name);
    if (text.length !== length) throw new Error(`${text.length} characters came, of ${length}`);
    return 1;
  };
}

/** Makes calls, so many at once, each as soon as the one before it is done; ends with the last of them. */
export async function runLoad(call: Call, inFlight: number, limit: Limit): Promise<Load> {
  const latencies: number[] = [];
  let operations = 0;
  let begun = 0;
  const stopwatch = startStopwatch();
  const endMs = "ms" in limit ? performance.now() + limit.ms : Number.POSITIVE_INFINITY;
  const mostCalls = "calls" in limit ? limit.calls : Number.POSITIVE_INFINITY;

  async function callAgainAndAgain(): Promise<void> {
    let nowMs = performance.now();
    while (nowMs < endMs && begun < mostCalls) {
      begun++;
      // Not in one line with the sum, which others add to meanwhile.
      const made = await call();
      operations += made;
      const doneMs = performance.now();
      latencies.push(doneMs - nowMs);
      nowMs = doneMs;
    }
  }

  await Promise.all(Array.from({ length: inFlight }, callAgainAndAgain));
  const measured = stopwatch.stop(operations);
  return {
    calls: latencies.length,
    operations,
    ...measured,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
  };
}
