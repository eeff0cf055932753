import { isOutage } from "#shared/database";
import { createLogThrottle, type Logger } from "#shared/logging";
import { bounded, createBackoff, sleep } from "#shared/timing";
import type { EventBus } from "../bus.ts";
import { createBatch } from "./batch.ts";
import type { Claim, Claims } from "./claims.ts";
import { createOutage } from "./outage.ts";
import type { Outcome } from "./rows.ts";
import { SHARDS } from "./shard.ts";
import { createWakeUp } from "./wake-up.ts";

/** Publishes what is in an outbox, and takes out what is confirmed. Several may work on one outbox, in any process. */
export interface Relay {
  start(): void;
  /** Says that there is something new. */
  nudge(): void;
  /** Waits for confirmations, up to 5 s, and leaves the rest in the outbox. */
  stop(signal?: AbortSignal): Promise<void>;
  /** Since the start. */
  readonly counts: { readonly published: number; readonly failedAttempts: number };
}

export interface RelayOptions {
  readonly claims: Claims;
  readonly bus: Pick<EventBus, "send">;
  readonly logger: Logger;
  /** Number of claims at a time, each with a shard of its own: while one waits for the database, another publishes. */
  readonly lanes: number;
  /** Maximum number of events of one claim. */
  readonly batchSize: number;
  /** Time after which a relay that has nothing to do looks for what other processes have added, and what has become due. */
  readonly pollMs: number;
  /** Time after which a relay that has stalled or died is without its shard. */
  readonly leaseMs: number;
}

const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 2_000;
/** How long a stop waits for confirmations before it gives the rest up. */
const STOP_MS = 5_000;
/** Events that take longer do not keep the others of their shard waiting. */
const ROUND_MS = 1_000;
/** After this time a claim takes no further events, so that its outcomes are committed. */
const MAX_CLAIM_MS = 10_000;
/** Lanes at a time besides the others, in place of those whose claims are slow. Each holds a connection. */
const MAX_EXTRA_LANES = 2;
const REFRESH_MS = 1_000;
const IDLE_REFRESH_MS = 30_000;

export function createRelay(options: RelayOptions): Relay {
  const { claims, bus, logger, lanes, batchSize, pollMs, leaseMs } = options;
  const log = createLogThrottle(logger);
  const stopping = new AbortController();
  /** Ends what is being published. */
  const hurry = new AbortController();
  const wakeUp = createWakeUp(stopping.signal);
  const outage = createOutage(stopping.signal);
  const counts = { published: 0, failedAttempts: 0 };
  const running = new Set<Promise<void>>();
  let started = false;
  let stopped: Promise<void> | undefined;
  let extraLanes = 0;
  let refreshedAt = Number.NEGATIVE_INFINITY;
  let passed = true;

  /** @param polls one lane polls: what it finds wakes the others */
  async function runLane(polls: boolean, goesOn: () => boolean): Promise<void> {
    const backoff = createBackoff({ initialMs: FIRST_PAUSE_MS, maxMs: MAX_PAUSE_MS });
    /** Claims in a row without an event that may be published. */
    let fruitless = 0;
    const lane = {};
    while (!stopping.signal.aborted && goesOn()) {
      try {
        await outage.enter(lane);
        if (stopping.signal.aborted) return;
        await refreshWhenDue();
        const limit = outage.isOn ? 1 : batchSize;
        let away: unknown;
        const claimed = await claims.claim(limit, leaseMs, async (claim) => {
          away = await publish(claim, limit);
        });
        fruitless = claimed === 0 ? fruitless + 1 : 0;
        if (claimed === undefined || fruitless === SHARDS) {
          fruitless = 0;
          await wakeUp.wait(polls || outage.isOn ? pollMs * (1 - Math.random() / 5) : undefined);
        } else if (away === undefined) backoff.reset();
        else {
          log.warn("bus away", { err: away }, "events wait in the outbox for the broker");
          await sleep(backoff.next(), stopping.signal);
        }
      } catch (err) {
        if (stopping.signal.aborted) return;
        if (isOutage(err)) claims.reset();
        // That the database is away is logged by the database.
        else log.error(`unreadable: ${err}`, { err }, "the outbox cannot be read");
        await sleep(backoff.next(), stopping.signal);
      }
    }
    // The nudge that ended its wait is for another.
    wakeUp.nudge();
  }

  async function refreshWhenDue(): Promise<void> {
    const now = performance.now();
    if (now - refreshedAt < (passed ? REFRESH_MS : IDLE_REFRESH_MS)) return;
    refreshedAt = now;
    passed = false;
    await claims.refresh();
  }

  function startLane(polls: boolean, goesOn: () => boolean): Promise<void> {
    const lane = runLane(polls, goesOn).finally(() => running.delete(lane));
    running.add(lane);
    return lane;
  }

  /** Takes the place of a lane as long as that one's claim is slow. */
  function startExtraLane(goesOn: () => boolean): void {
    extraLanes++;
    void startLane(true, () => goesOn() && !outage.isOn).finally(() => extraLanes--);
  }

  /** @returns why the bus could not be reached, if it could not */
  async function publish(claim: Claim, limit: number): Promise<unknown> {
    // There may be more than this claim, for another lane.
    wakeUp.nudge();
    passed = true;
    const began = performance.now();
    let heldUntil = began + leaseMs;
    const lost = new AbortController();
    const isHeld = () => performance.now() < heldUntil;
    const batch = createBatch(
      bus,
      () => isHeld() && !stopping.signal.aborted,
      AbortSignal.any([lost.signal, hurry.signal]),
    );
    let confirmed = false;
    let addsLane = false;

    /** Extends the claim by what any statement in it does. */
    async function holding<T>(statement: Promise<T>): Promise<T> {
      const asked = performance.now();
      const result = await statement;
      heldUntil = asked + leaseMs;
      return result;
    }

    batch.add(claim.rows);
    try {
      for (;;) {
        const { kind } = await bounded(batch.done(), Math.min(ROUND_MS, leaseMs / 3));
        const outcomes = batch.drain();
        confirmed ||= outcomes.some(isResponse);
        if (batch.outage !== undefined) outage.begin();
        else if (outcomes.some(isResponse)) outage.end();
        if (kind !== "overran") {
          await settle(claim, outcomes);
          return batch.outage;
        }
        await holding(outcomes.length === 0 ? claim.keepAlive() : settle(claim, outcomes));
        const age = performance.now() - began;
        if (age < ROUND_MS || age > MAX_CLAIM_MS || outage.isOn || stopping.signal.aborted) continue;
        // As long as nothing is confirmed, the broker may be away.
        if (confirmed && !addsLane && extraLanes < MAX_EXTRA_LANES) {
          addsLane = true;
          startExtraLane(() => addsLane);
        }
        const { unsettled } = batch;
        const room = limit - unsettled.length;
        if (room > 0) batch.add(await holding(claim.more(room, unsettled)));
      }
    } catch (error) {
      lost.abort(error);
      const fields = { err: error, shards: claim.shards };
      log.warn("claim lost", fields, "a claim of the outbox is lost: what it has published is published again");
      throw error;
    } finally {
      addsLane = false;
    }
  }

  async function settle(claim: Claim, outcomes: readonly Outcome[]): Promise<void> {
    if (outcomes.length > 0) await claim.settle(outcomes);
    for (const outcome of outcomes) {
      if (outcome.kind === "published") counts.published++;
      else if (outcome.kind === "failed" || outcome.kind === "parked") {
        counts.failedAttempts++;
        tell(outcome);
      }
    }
  }

  function tell(outcome: Extract<Outcome, { error: string }>): void {
    const { kind, error, row } = outcome;
    const { type, id, routingKey } = row.envelope;
    const fields = { event_type: type, event_id: id, routing_key: routingKey, error };
    if (kind === "parked")
      log.error(`parked: ${error}`, fields, "event parked in the outbox, for an operator to decide");
    else {
      const retry_ms = Math.round(outcome.retryMs);
      log.warn(`failed: ${error}`, { ...fields, retry_ms }, "event not published, to be tried again");
    }
  }

  async function stop(signal: AbortSignal | undefined): Promise<void> {
    stopping.abort();
    const ended = Promise.all(running).then(() => {});
    const { kind } = await bounded(ended, STOP_MS, signal);
    if (kind === "overran") {
      hurry.abort(new Error("the relay is stopped"));
      await bounded(ended, STOP_MS, signal);
    }
    log.flush();
  }

  return {
    start() {
      if (started) return;
      started = true;
      for (let lane = 0; lane < lanes; lane++) void startLane(lane === 0, () => true);
    },
    nudge: () => wakeUp.nudge(),
    stop(signal) {
      stopped ??= stop(signal);
      return stopped;
    },
    counts,
  };
}

/** Whether the broker is there, as the outcome shows. */
function isResponse({ kind }: Outcome): boolean {
  return kind === "published" || kind === "failed";
}
