import { randomUUID } from "node:crypto";
import type { Kysely, Transaction } from "kysely";
import { isOutage, limitsOf, probe, requireTables } from "#shared/database";
import { createLogThrottle, type Logger } from "#shared/logging";
import { createBackoff, sleep } from "#shared/timing";
import type { ConsumerGuard, GuardedMessage, GuardResult } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { inboxKey } from "./key.ts";
import { createRecorder, type Keyed } from "./recorder.ts";
import { revocable } from "./revocable.ts";
import { createUpkeep } from "./upkeep.ts";
import { windowOf } from "./window.ts";

/**
 * Makes the effect of an event happen once. A key of queue, source and id is stored in the transaction that the handler
 * works in, and an event whose key is there already is not handled. That holds for copies that come within the window
 * (`rabbitmq.inbox_window`). What a handler does outside of that transaction happens at least once.
 */
export interface Inbox<Tables> extends ConsumerGuard<{ readonly tx: Transaction<Tables> }> {
  /** Begins to open and drop partitions of the table in the background. */
  start(): void;
  stop(): Promise<void>;
}

export interface InboxOptions<Tables> {
  /** `db` of the service's Database, whose migrations contain `inboxMigration` and `inboxUpgrade`. */
  readonly db: Kysely<Tables>;
  readonly logger: Logger;
  /** The `rabbitmq` section: `inbox_window`, and what its default derives from. Default: the section's defaults. */
  readonly config?: Pick<RabbitmqConfig, "inboxWindowMs" | "retry"> | undefined;
  /** Maximum number of events in one transaction. Default 100. */
  readonly batchSize?: number | undefined;
  /** A transaction takes no further event after this time. Default 250 ms. */
  readonly batchTimeMs?: number | undefined;
  /** How long a copy is recognised, in place of what `config` says. */
  readonly windowMs?: number | undefined;
}

/** Between the end of a handler's time and the time at which the database ends its session. */
const HANDLER_MARGIN_MS = 1_000;
const FIRST_BATCH = 10;
/** A message is tried again for so long when sessions are lost: a failover ends those of several attempts. */
const LOST_SESSIONS_MS = 30_000;

/** How a transaction ended for its messages. */
type Attempt =
  /** With a result for each message that had its turn before the transaction's time was over. */
  | { readonly kind: "committed"; readonly results: readonly GuardResult[] }
  /** Rolled back. */
  | { readonly kind: "failed"; readonly error: unknown; readonly recorded: boolean };

/** @throws RangeError when the window is shorter than the time that a message may take until its last attempt */
export function createInbox<Tables>(options: InboxOptions<Tables>): Inbox<Tables> {
  const { db, logger, batchSize = 100, batchTimeMs = 250 } = options;
  const windowMs = options.windowMs ?? windowOf(options.config);
  const recorder = createRecorder();
  const upkeep = createUpkeep({ db, logger, windowMs });
  const throttle = createLogThrottle(logger);
  requireTables(db, { names: ["inbox_events", "inbox_partitions"], hint: "add inboxUpgrade to the migrations" });
  /** So many messages had their turn in time: those that do not are recorded in vain, and another transaction may be free. */
  let fitting = Math.min(FIRST_BATCH, batchSize);

  /** Transaction whose first snapshot is that of its first statement and not of an earlier one (partitions.ts). */
  const transaction = <T>(work: (tx: Transaction<Tables>) => Promise<T>) =>
    db.transaction().setIsolationLevel("read committed").execute(work);

  async function together<M extends GuardedMessage>(
    queue: string,
    messages: readonly Keyed<M>[],
    work: (message: M, extra: { readonly tx: Transaction<Tables> }) => Promise<void>,
  ): Promise<Attempt> {
    const results: GuardResult[] = [];
    let recorded = false;
    try {
      await transaction(async (tx) => {
        const { fresh, forget } = await recorder.record(tx, queue, messages);
        recorded = true;
        const until = performance.now() + batchTimeMs;
        for (const [index, { message, key }] of messages.entries()) {
          if (index > 0 && performance.now() > until) {
            await forget(messages.slice(index).filter((left) => fresh.has(left.key)));
            break;
          }
          if (!fresh.delete(key)) {
            results.push({ kind: "duplicate" });
            continue;
          }
          const { tx: own, revoke } = revocable(tx);
          try {
            await work(message, { tx: own });
            results.push({ kind: "done" });
          } finally {
            revoke();
          }
        }
      });
      return { kind: "committed", results };
    } catch (error) {
      return { kind: "failed", error, recorded };
    }
  }

  /** Whether the inbox can store keys: the database answers and takes writes, and the tables are there. */
  async function isUsable(): Promise<boolean> {
    if (!(await probe(db))) return false;
    const undo = new Error("undo");
    try {
      await transaction(async (tx) => {
        await recorder.record(tx, "", [{ message: { id: "", source: "" }, key: randomUUID() }]);
        throw undo;
      });
    } catch (err) {
      if (err === undo) return true;
      recorder.reset();
      if (!isOutage(err)) throttle.error("unusable", { err }, "the inbox cannot store events, retrying");
    }
    return false;
  }

  const { idleInTransactionTimeoutMs, poolSize } = limitsOf(db);
  const maxHandlerMs = idleInTransactionTimeoutMs - batchTimeMs - HANDLER_MARGIN_MS;
  /** A message that cannot be recorded is tried again for so long: a handler may be at work on a copy. */
  const recordMs = Number.isFinite(maxHandlerMs) ? maxHandlerMs : LOST_SESSIONS_MS;

  /** How long a message is tried again from its first failure on, because its handler is not what failed. */
  function retryMsOf({ recorded, error }: { readonly recorded: boolean; readonly error: unknown }): number {
    if (!recorded) return recordMs;
    return isLostSession(error) ? LOST_SESSIONS_MS : 0;
  }

  return {
    get batchSize() {
      return fitting;
    },
    maxHandlerMs,
    // One connection at least is left for calls and for the outbox.
    maxConcurrency: Math.max(1, poolSize - 1),

    async ready(signal) {
      const backoff = createBackoff({ initialMs: 100, maxMs: 5_000 });
      signal.throwIfAborted();
      while (!(await isUsable())) {
        await sleep(backoff.next(), signal);
        signal.throwIfAborted();
      }
    },

    async run(queue, messages, work) {
      const keyed = messages.map((message) => ({ message, key: inboxKey(queue, message.source, message.id) }));
      const results: GuardResult[] = [];
      // After a failure, messages run alone up to here. It says only of one that was alone whose failure it is: a statement
      // fails also because of an earlier one whose error a handler has swallowed.
      let aloneUntil = 0;
      const backoff = createBackoff({ initialMs: 50, maxMs: 2_000 });
      let failingSince: number | undefined;
      const nextMessage = () => {
        backoff.reset();
        failingSince = undefined;
      };
      while (results.length < keyed.length) {
        const from = results.length;
        const size = from < aloneUntil ? 1 : fitting;
        const batch = keyed.slice(from, from + size);
        const attempt = await together(queue, batch, work);
        if (attempt.kind === "committed") {
          results.push(...attempt.results);
          nextMessage();
          if (attempt.results.length < batch.length) fitting = attempt.results.length;
          else if (batch.length === fitting) fitting = Math.min(fitting * 2, batchSize);
          continue;
        }
        const { error, recorded } = attempt;
        if (!recorded) recorder.reset();
        if (!(await (recorded ? probe(db) : isUsable()))) {
          while (results.length < keyed.length) results.push({ kind: "unavailable", error });
          continue;
        }
        if (batch.length > 1) {
          aloneUntil = from + batch.length;
          continue;
        }
        failingSince ??= performance.now();
        if (performance.now() - failingSince < retryMsOf(attempt)) {
          throttle.warn(
            "again",
            { err: error, queue },
            "an event could not be recorded or its session was lost, retrying",
          );
          await sleep(backoff.next());
        } else {
          results.push({ kind: "failed", error });
          nextMessage();
        }
      }
      return results;
    },

    start: upkeep.start,
    async stop() {
      await upkeep.stop();
      throttle.flush();
    },
  };
}

/** Whether a session ended for another reason than that its transaction was idle for too long (25P03). */
function isLostSession(error: unknown): boolean {
  if (!isOutage(error)) return false;
  const { code } = (error.cause ?? {}) as { code?: unknown };
  return code !== "25P03";
}
