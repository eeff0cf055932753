import { setTimeout as delay } from "node:timers/promises";
import { isOutage } from "#shared/database";
import type { Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import type { EventBus } from "../bus.ts";
import { isBusOutage } from "../errors.ts";
import type { Claim, Claims, OutboxRow, Results } from "./claims.ts";
import { createWakeUp } from "./wake-up.ts";

/** Publishes what is in an outbox, and takes out what is confirmed. Several may work on one outbox, in any process. */
export interface Relay {
  start(): void;
  /** There is something new. */
  nudge(): void;
  /** Gives back what it has not published. */
  stop(signal?: AbortSignal): Promise<void>;
  /** Since the start. */
  readonly counts: { readonly published: number; readonly failed: number };
}

export interface RelayOptions {
  readonly claims: Claims;
  readonly bus: Pick<EventBus, "send">;
  readonly logger: Logger;
  /** At once, each with a shard of its own: while one waits for the database, another publishes. */
  readonly lanes: number;
  /** The most events of one claim. */
  readonly batchSize: number;
  /** The longest wait for what nobody has nudged about: another process's events, and failures to try again. */
  readonly pollMs: number;
  /** After so long a relay that has stalled or died is without its shard. */
  readonly leaseMs: number;
}

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 60_000;
/** How long a stop waits for confirmations before it gives the rest up. */
const STOP_MS = 5_000;

export function createRelay(options: RelayOptions): Relay {
  const { claims, bus, logger, lanes, batchSize, pollMs, leaseMs } = options;
  const stopping = new AbortController();
  /** Ends what is being published. */
  const hurry = new AbortController();
  const wakeUp = createWakeUp(stopping.signal);
  const counts = { published: 0, failed: 0 };
  let running: Promise<void> | undefined;
  let stopped: Promise<void> | undefined;

  /** Only one of them polls: what it finds wakes the others. */
  async function runLane(polls: boolean): Promise<void> {
    let outages = 0;
    let told: string | undefined;
    while (!stopping.signal.aborted) {
      try {
        const claim = await claims.claim(batchSize, leaseMs);
        if (claim === undefined) await wakeUp.wait(polls ? pollMs * (1 - Math.random() / 5) : undefined);
        else {
          const outage = await relay(claim);
          if (outage === undefined) outages = 0;
          else {
            if (outages === 0) logger.warn({ err: outage }, "events wait in the outbox for the broker");
            await pause(outages++);
          }
        }
      } catch (err) {
        if (stopping.signal.aborted) return;
        // That the database is away, as it is until it has been migrated, is the database's to tell. Anything else, such as
        // tables that are not there, is told once.
        if (!isOutage(err) && String(err) !== told) {
          told = String(err);
          logger.error({ err }, "the outbox cannot be read");
        }
        await pause(outages++);
      }
    }
  }

  /** @returns why the bus could not be reached, if it could not */
  async function relay(claim: Claim): Promise<unknown> {
    // There may be more than this claim, for another lane.
    wakeUp.nudge();
    const batch = new AbortController();
    const giveUp = AbortSignal.any([batch.signal, hurry.signal]);
    const lost = keepLease(claim, batch);
    const results = { published: [] as bigint[], failed: [] as Results["failed"][number][] };
    let outage: unknown;
    await Promise.all(
      byKey(claim.rows).map(async (rows) => {
        for (const row of rows) {
          if (giveUp.aborted || outage !== undefined || stopping.signal.aborted) return;
          try {
            await bus.send(row.envelope, giveUp);
            results.published.push(row.id);
          } catch (error) {
            // No answer is no attempt. The later ones of the key wait for this one either way.
            if (giveUp.aborted) return;
            if (isBusOutage(error)) outage = error;
            else results.failed.push({ id: row.id, retryMs: retryMs(row.attempts), error: reasonOf(error) });
            return;
          }
        }
      }),
    );
    clearInterval(lost);
    await finish(claim, results);
    return outage;
  }

  /** A claim may take longer than its lease, as long as this process lives. */
  function keepLease(claim: Claim, batch: AbortController): NodeJS.Timeout {
    let heldUntil = performance.now() + leaseMs;
    return setInterval(() => {
      const asked = performance.now();
      // Whatever the database says, or does not: by now another may have it.
      if (asked > heldUntil) batch.abort(new Error("the lease has run out"));
      claims.renew(claim, leaseMs).then(
        (held) => {
          if (held) heldUntil = asked + leaseMs;
          else batch.abort(new Error("another relay has the shard"));
        },
        (err: unknown) => logger.warn({ err, shard: claim.shard }, "a lease of the outbox cannot be renewed"),
      );
    }, leaseMs / 3);
  }

  async function finish(claim: Claim, results: Results): Promise<void> {
    const { published, failed } = results;
    counts.published += published.length;
    counts.failed += failed.length;
    for (const { id, error, retryMs: ms } of failed) {
      const { type, id: eventId, routingKey } = claim.rows.find((row) => row.id === id)?.envelope ?? {};
      const event = { event_type: type, event_id: eventId, routing_key: routingKey };
      logger.warn({ ...event, error, retry_ms: Math.round(ms) }, "event not published, to be tried again");
    }
    for (let failures = 0; ; failures++) {
      try {
        const held = await claims.finish(claim, results);
        if (!held) logger.warn({ shard: claim.shard }, "another relay has the shard: its events are published twice");
        return;
      } catch (err) {
        // Without this they would be published again when the lease is over.
        if (failures === 5 || stopping.signal.aborted) throw err;
        await pause(failures);
      }
    }
  }

  async function pause(failures: number): Promise<void> {
    const ms = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(failures, 10), LONGEST_PAUSE_MS);
    await delay(ms * (1 - Math.random() / 5), undefined, { signal: stopping.signal }).catch(() => {});
  }

  async function stop(signal: AbortSignal | undefined): Promise<void> {
    stopping.abort();
    if (running === undefined) return;
    const { kind } = await bounded(running, STOP_MS, signal);
    if (kind !== "overran") return;
    hurry.abort(new Error("the relay is stopped"));
    await bounded(running, STOP_MS, signal);
  }

  return {
    start() {
      running ??= Promise.all(Array.from({ length: lanes }, (_, lane) => runLane(lane === 0))).then(() => {});
    },
    nudge: () => wakeUp.nudge(),
    stop(signal) {
      stopped ??= stop(signal);
      return stopped;
    },
    counts,
  };
}

/** Each key's rows in order; a row without a key alone. */
function byKey(rows: readonly OutboxRow[]): OutboxRow[][] {
  const groups = new Map<string, OutboxRow[]>();
  const alone: OutboxRow[][] = [];
  for (const row of rows) {
    const { key } = row.envelope;
    const group = key === "" ? undefined : groups.get(key);
    if (group !== undefined) group.push(row);
    else if (key === "") alone.push([row]);
    else groups.set(key, [row]);
  }
  return [...groups.values(), ...alone];
}

/** Doubles from half a second to a minute, less up to a fifth. */
function retryMs(attempts: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempts, 20), LONGEST_RETRY_MS) * (1 - Math.random() / 5);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return "reason" in error ? String(error.reason) : error.message;
}
