import { setTimeout as delay } from "node:timers/promises";
import { type Kysely, sql, type Transaction } from "kysely";
import { isOutage } from "#shared/database";
import type { Logger } from "#shared/logging";
import type { ConsumerGuard, GuardResult } from "../bus.ts";
import { revocable } from "./revocable.ts";

/**
 * Makes the effect of an event happen once: its id is stored in the transaction that the handler works in, and an event
 * whose id is there already is not handled. What a handler does outside of that transaction is at least once.
 */
export interface Inbox<Tables> extends ConsumerGuard<{ readonly tx: Transaction<Tables> }> {
  /** Begins to remove ids that are older than any copy can be. */
  start(): void;
  stop(): Promise<void>;
}

export interface InboxOptions<Tables> {
  /** A service's, whose schema has the table of `inboxMigration`. */
  readonly db: Kysely<Tables>;
  readonly logger: Logger;
  /** The most events in one transaction: those that are there when it begins. Default 100. */
  readonly batchSize?: number;
  /** A transaction takes no further event after so long. Default 250 ms. */
  readonly batchTimeMs?: number;
  /** For how long ids are kept: longer than a message may lie in a queue or be a dead letter. Default 30 days. */
  readonly retentionMs?: number;
}

const DAY_MS = 24 * 60 * 60_000;
const PRUNE_EVERY_MS = 60 * 60_000;
const PRUNE_AT_ONCE = 10_000;

export function createInbox<Tables>(options: InboxOptions<Tables>): Inbox<Tables> {
  const { db, logger, batchSize = 100, batchTimeMs = 250, retentionMs = 30 * DAY_MS } = options;
  const stopping = new AbortController();
  let pruning: Promise<void> | undefined;

  /**
   * One transaction for all; undefined where a message did not get its turn. A failure takes everybody's work back, and
   * says whose it was only of one that was alone: a statement fails also because of an earlier one whose error a handler
   * has swallowed.
   */
  async function together<M extends { readonly id: string }>(
    queue: string,
    messages: readonly M[],
    work: (message: M, extra: { readonly tx: Transaction<Tables> }) => Promise<void>,
  ): Promise<(GuardResult | undefined)[]> {
    let results: (GuardResult | undefined)[] = messages.map(() => undefined);
    let recorded = false;
    try {
      await db.transaction().execute(async (tx) => {
        const fresh = await record(tx, queue, messages);
        recorded = true;
        const until = performance.now() + batchTimeMs;
        for (const [index, message] of messages.entries()) {
          if (!fresh.delete(message.id)) {
            results[index] = { kind: "duplicate" };
            continue;
          }
          if (index > 0 && performance.now() > until) {
            await forget(tx, queue, [message.id, ...fresh]);
            results = results.slice(0, index);
            break;
          }
          const { tx: own, revoke } = revocable(tx);
          try {
            await work(message, { tx: own });
            results[index] = { kind: "done" };
          } finally {
            revoke();
          }
        }
        // What stands in the way of a commit: a transaction in which a statement has failed is rolled back by `commit`,
        // and PostgreSQL does not call that an error.
        await sql`select 1`.execute(tx);
      });
      return messages.map((_, index) => results[index]);
    } catch (error) {
      // Nobody's fault: nobody has had an attempt.
      if (isOutage(error) || (!recorded && !isOfTheMessage(error)))
        return messages.map(() => ({ kind: "unavailable", error }));
      return messages.length > 1 ? messages.map(() => undefined) : [{ kind: "failed", error }];
    }
  }

  /** The ids of those that were not there before; a copy that is being handled elsewhere is waited for. */
  async function record(
    tx: Transaction<Tables>,
    queue: string,
    messages: readonly { readonly id: string }[],
  ): Promise<Set<string>> {
    // In one order everywhere: two that wait for each other's ids would be a deadlock.
    const ids = [...new Set(messages.map(({ id }) => id))].sort();
    const { rows } = await sql<{ event_id: string }>`
      insert into inbox (queue, event_id)
      select ${queue}, id from unnest(${ids}::text[]) with ordinality as ids (id, place) order by place
      on conflict do nothing
      returning event_id`.execute(tx);
    return new Set(rows.map((row) => row.event_id));
  }

  async function forget(tx: Transaction<Tables>, queue: string, ids: readonly string[]): Promise<void> {
    await sql`delete from inbox where queue = ${queue} and event_id = any(${ids}::text[])`.execute(tx);
  }

  async function prune(): Promise<void> {
    while (!stopping.signal.aborted) {
      let removed = 0n;
      try {
        const { numAffectedRows } = await sql`
          delete from inbox where ctid = any(array(
            select ctid from inbox where handled_at < now() - ${retentionMs} * interval '1 millisecond'
            limit ${PRUNE_AT_ONCE}
          ))`.execute(db);
        removed = numAffectedRows ?? 0n;
      } catch (err) {
        // The database is away, or closing: the ids can wait.
        logger.debug({ err }, "the inbox is not pruned for now");
      }
      if (removed === BigInt(PRUNE_AT_ONCE)) continue;
      await delay(PRUNE_EVERY_MS, undefined, { signal: stopping.signal }).catch(() => {});
    }
  }

  return {
    batchSize,
    ready: async () => {},
    async run(queue, messages, work) {
      const results: GuardResult[] = [];
      let rest = [...messages.entries()];
      let size = rest.length;
      while (rest.length > 0) {
        const batch = rest.slice(0, size);
        const outcomes = await together(
          queue,
          batch.map(([, message]) => message),
          work,
        );
        const left: typeof rest = [];
        for (const [i, entry] of batch.entries()) {
          const outcome = outcomes[i];
          if (outcome === undefined) left.push(entry);
          else results[entry[0]] = outcome;
        }
        const unavailable = outcomes.find((outcome) => outcome?.kind === "unavailable");
        if (unavailable !== undefined) {
          // Those after it too, or they would overtake it.
          for (const [index] of rest) results[index] ??= unavailable;
          return results;
        }
        rest = [...left, ...rest.slice(size)];
        // None has a result: one of them failed, and it shows one by one which.
        if (left.length === batch.length) size = 1;
      }
      return results;
    },
    start() {
      pruning ??= prune();
    },
    async stop() {
      stopping.abort();
      await pruning;
    },
  };
}

/** Whether an id cannot be stored because of what it is: a NUL in it (class 22), or too long for an index (54). */
function isOfTheMessage(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" && /^(22|54)...$/.test(code);
}
