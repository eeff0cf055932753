import { type DatabaseConnection, type Dialect, type Driver, PGliteAdapter } from "kysely";

/** Who may use a session, one at a time. */
export interface Turns {
  /** Resolves when it is the caller's turn; rejects when that is refused or takes too long. */
  take(): Promise<void>;
  /** Prepares the session for the one whose turn it is. */
  enter(connection: DatabaseConnection): Promise<void>;
  release(): void;
}

/**
 * A dialect for one Kysely of many over one driver with one session. Kysely's own lock is one for each Kysely, so
 * several would mix their statements into each other's transactions; and it waits without a bound.
 */
export function shareSession(dialect: Dialect, driver: Driver, turns: Turns): Dialect {
  const shared: Driver = {
    init: async () => {},
    async acquireConnection(options) {
      await turns.take();
      try {
        const connection = await driver.acquireConnection(options);
        await turns.enter(connection);
        return connection;
      } catch (error) {
        turns.release();
        throw error;
      }
    },
    releaseConnection: async () => turns.release(),
    beginTransaction: (connection, settings) => driver.beginTransaction(connection, settings),
    commitTransaction: (connection) => driver.commitTransaction(connection),
    rollbackTransaction: (connection) => driver.rollbackTransaction(connection),
    savepoint: async (connection, name, compile) => await driver.savepoint?.(connection, name, compile),
    rollbackToSavepoint: async (connection, name, compile) =>
      await driver.rollbackToSavepoint?.(connection, name, compile),
    releaseSavepoint: async (connection, name, compile) => await driver.releaseSavepoint?.(connection, name, compile),
    // The owner of the session closes it.
    destroy: async () => {},
  };
  return {
    createDriver: () => shared,
    createAdapter: () => new SharedSessionAdapter(),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createIntrospector: (db) => dialect.createIntrospector(db),
  };
}

class SharedSessionAdapter extends PGliteAdapter {
  /** Keeps Kysely from adding its lock to this one. */
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}
