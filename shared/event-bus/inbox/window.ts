import { type RabbitmqConfig, rabbitmqSection } from "../config.ts";

/** How long a dead letter may lie until it is driven again, by default. */
const DEAD_LETTER_MS = 14 * 24 * 60 * 60_000;

/**
 * How long the inbox recognises a copy, in ms: `inbox_window`, or else what the retry delays and `retry.peer_outage` add up
 * to and 14 days besides.
 *
 * @throws RangeError when `inbox_window` is shorter than the delays and `retry.peer_outage`
 */
export function windowOf(config: Pick<RabbitmqConfig, "inboxWindowMs" | "retry"> = defaults()): number {
  const { inboxWindowMs, retry } = config;
  const retriesMs = retry.delaysMs.reduce((sum, delayMs) => sum + delayMs, retry.peerOutageMs);
  if (inboxWindowMs === undefined) return retriesMs + DEAD_LETTER_MS;
  if (inboxWindowMs < retriesMs) {
    throw new RangeError(
      `rabbitmq.inbox_window is ${inboxWindowMs} ms, and a message may be tried again for ${retriesMs} ms ` +
        "(retry.delays and retry.peer_outage)",
    );
  }
  return inboxWindowMs;
}

function defaults(): RabbitmqConfig {
  return rabbitmqSection.parse({ exchange: "default", queue: "default" });
}
