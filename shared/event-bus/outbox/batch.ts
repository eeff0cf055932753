import type { EventBus } from "../bus.ts";
import { isBusOutage } from "../errors.ts";
import type { OutboxRow, Outcome } from "./rows.ts";

/** Publishes the events of a claim: different keys at the same time, those of one key one after the other. */
export interface Batch {
  add(rows: readonly OutboxRow[]): void;
  /** Takes the outcomes since the last call. */
  drain(): Outcome[];
  /** Events whose outcome is not known or has not been taken yet, in no order. */
  readonly unsettled: readonly OutboxRow[];
  /** Resolves when nothing is being published any more. */
  done(): Promise<void>;
  /** Why the bus could not be reached, if it could not. Then no further event is begun. */
  readonly outage: unknown;
}

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 60_000;
/** Neither the broker nor the link takes such an event, whenever it is sent. */
const HOPELESS = "EVENT_TOO_LARGE";
/** The event overran the time limit that its size has. The link may be to blame for it once. */
const OVERRAN = "EVENT_NOT_CONFIRMED";

/**
 * @param mayPublish whether the claim still holds; asked before each event
 * @param signal ends what is being published; such events have no outcome
 */
export function createBatch(bus: Pick<EventBus, "send">, mayPublish: () => boolean, signal: AbortSignal): Batch {
  let outcomes: Outcome[] = [];
  let outage: unknown;
  const unsettled = new Set<OutboxRow>();
  const running = new Set<Promise<void>>();

  async function publishInOrder(rows: readonly OutboxRow[]): Promise<void> {
    for (let index = 0; index < rows.length; index++) {
      const row = rows[index];
      if (row === undefined || outage !== undefined || !mayPublish()) return;
      const outcome = await publish(row);
      if (outcome === undefined) return;
      outcomes.push(outcome);
      if (outcome.kind === "failed" && row.envelope.key !== "") {
        for (const later of rows.slice(index + 1)) wait(later);
        return;
      }
    }
  }

  /** @returns undefined when it is not known whether the bus takes the event: that is no attempt */
  async function publish(row: OutboxRow): Promise<Outcome | undefined> {
    try {
      await bus.send(row.envelope, signal);
      return { kind: "published", row };
    } catch (error) {
      if (signal.aborted) return undefined;
      if (isBusOutage(error)) {
        outage = error;
        return undefined;
      }
      const reason = reasonOf(error);
      if (reason === HOPELESS || (reason === OVERRAN && row.lastError === OVERRAN)) {
        return { kind: "parked", row, error: reason };
      }
      return { kind: "failed", row, retryMs: retryMs(row.attempts), error: reason };
    }
  }

  /** Behind a failed event of its key. Those that wait already stay as they are. */
  function wait(row: OutboxRow): void {
    if (row.state === "behind") unsettled.delete(row);
    else outcomes.push({ kind: "behind", row });
  }

  function add(rows: readonly OutboxRow[]): void {
    const halted = new Set<string>();
    const byKey = new Map<string, OutboxRow[]>();
    for (const row of rows) {
      const { key } = row.envelope;
      unsettled.add(row);
      if (row.halted || halted.has(key)) wait(row);
      else if (row.waitMs !== null) {
        outcomes.push({ kind: "postponed", row, retryMs: row.waitMs });
        if (key !== "") halted.add(key);
      } else if (key === "") start([row]);
      else {
        const group = byKey.get(key);
        if (group === undefined) byKey.set(key, [row]);
        else group.push(row);
      }
    }
    for (const group of byKey.values()) start(group);
  }

  function start(rows: readonly OutboxRow[]): void {
    const work = publishInOrder(rows).finally(() => running.delete(work));
    running.add(work);
  }

  return {
    add,
    drain() {
      const drained = outcomes;
      outcomes = [];
      for (const { row } of drained) unsettled.delete(row);
      return drained;
    },
    get unsettled() {
      return [...unsettled];
    },
    async done() {
      await Promise.all(running);
    },
    get outage() {
      return outage;
    },
  };
}

/** Doubles from half a second to a minute, less up to a fifth. */
function retryMs(attempts: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempts, 20), MAX_RETRY_MS) * (1 - Math.random() / 5);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return "reason" in error ? String(error.reason) : error.message;
}
