import type { AsyncMessage, Channel } from "rabbitmq-client";
import { bounded } from "#shared/timing";
import { busUnavailable } from "../errors.ts";

export interface SuspectsOptions {
  readonly channel: Channel;
  readonly queue: string;
  readonly deliveryLimit: number;
  /** For the broker's answers. */
  readonly timeoutMs: number;
  /** Ends it after the message in hand. */
  readonly signal: AbortSignal;
  /** Resolves when the message is answered, or can no longer be. */
  readonly handle: (message: AsyncMessage) => Promise<void>;
}

/** Once is no ground for suspicion: a connection was lost, or a process killed. */
const TIMES = 2;

/**
 * Handles, one by one, what lies at the head of the queue and was given back without an answer again and again: one of
 * these messages may be what kills its consumer each time. The broker counts that for all that the consumer had in hand,
 * and at the delivery limit it would make dead letters of them all; like this, of the one. What is given back lies before
 * what is new, so the first that is not suspected ends it; that one is handed over too.
 *
 * @throws DomainError EVENT_BUS_UNAVAILABLE; what the broker says
 */
export async function handleSuspects(options: SuspectsOptions): Promise<void> {
  const { channel, queue, deliveryLimit, timeoutMs, signal, handle } = options;
  while (channel.active && !signal.aborted) {
    const getting = channel.basicGet({ queue });
    if ((await bounded(getting, timeoutMs)).kind === "overran") throw busUnavailable("the broker does not answer");
    const got = await getting;
    if (got === undefined) return;
    const handling = handle({ ...got, consumerTag: "" });
    if (Number(got.headers?.["x-delivery-count"] ?? 0) < Math.min(TIMES, deliveryLimit)) return;
    await handling;
  }
}
