import type { Kysely, Transaction } from "kysely";

/**
 * Runs the work in a transaction: in the one that `db` is, when it is one, else in a new one. For repositories that are
 * used on their own and inside of a handler's transaction. Nothing of a transaction that was there before is committed.
 */
export function inTransaction<Tables, T>(
  db: Kysely<Tables> | Transaction<Tables>,
  work: (tx: Transaction<Tables>) => Promise<T>,
): Promise<T> {
  return db.isTransaction ? work(db as Transaction<Tables>) : db.transaction().execute(work);
}
