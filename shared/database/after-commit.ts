import type { DatabaseConnection, Dialect, Driver, Kysely } from "kysely";

/** Work that waits for the commit of the transaction that is open on a connection. */
const waiting = new WeakMap<DatabaseConnection, (() => void)[]>();

/**
 * Calls `work` once what `db` writes now is committed, and never when it is rolled back: after the commit when `db` is a
 * transaction, else at once. For hints that may get lost, such as waking a relay: a crash right after the commit leaves
 * no trace of it. It must not throw.
 */
export async function afterCommit(
  db: Pick<Kysely<unknown>, "isTransaction" | "getExecutor">,
  work: () => void,
): Promise<void> {
  if (!db.isTransaction) {
    work();
    return;
  }
  await db.getExecutor().provideConnection(async (connection) => {
    const works = waiting.get(connection);
    if (works === undefined) waiting.set(connection, [work]);
    else works.push(work);
  });
}

/** A dialect whose transactions run the work given to `afterCommit`. */
export function withCommitHooks(dialect: Dialect): Dialect {
  return {
    createDriver: () => hookedDriver(dialect.createDriver()),
    createAdapter: () => dialect.createAdapter(),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createIntrospector: (db) => dialect.createIntrospector(db),
  };
}

function hookedDriver(driver: Driver): Driver {
  const hooks: Pick<Driver, "beginTransaction" | "commitTransaction" | "rollbackTransaction"> = {
    async beginTransaction(connection, settings) {
      waiting.delete(connection);
      await driver.beginTransaction(connection, settings);
    },
    async commitTransaction(connection) {
      const works = waiting.get(connection) ?? [];
      waiting.delete(connection);
      await driver.commitTransaction(connection);
      for (const work of works) work();
    },
    async rollbackTransaction(connection) {
      waiting.delete(connection);
      await driver.rollbackTransaction(connection);
    },
  };
  // All other methods are the driver's own, the optional ones too.
  return new Proxy(driver, {
    get(target, name) {
      if (Object.hasOwn(hooks, name)) return Reflect.get(hooks, name);
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
