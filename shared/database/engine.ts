import { type Dialect, Kysely } from "kysely";
import type { DatabaseLimits } from "./origin.ts";

/** What is under a Database: PostgreSQL with its pool, or an embedded PGlite. Its creator closes it. */
export interface Engine {
  /** For logs; holds no secret. */
  readonly name: string;
  /** The one session of an embedded database. */
  readonly session?: object | undefined;
  readonly limits: DatabaseLimits;
  /**
   * A dialect over this engine's connections; there may be many. Every failure that is an outage comes out of it as a
   * DatabaseUnavailableError.
   *
   * @param schema what unqualified names mean
   * @param admit called before each connection is handed out; throws to refuse
   */
  createDialect(schema: string, admit: () => void): Dialect;
  /**
   * Runs the work in a transaction of its own, on a connection that nothing else uses.
   *
   * @param signal ends a wait for a lock or for a statement, where the engine can
   * @throws DatabaseUnavailableError when the database is away
   */
  inOwnTransaction<T>(work: (tx: Kysely<unknown>) => Promise<T>, signal: AbortSignal): Promise<T>;
  /**
   * Whether the database answers and takes writes; false when that cannot be asked because connections are used up, which
   * proves nothing.
   *
   * @param mayConnect whether to open a connection beside the pool when all of its connections are in use
   * @throws DatabaseUnavailableError when it is away
   */
  probe(mayConnect: boolean): Promise<boolean>;
  /** Waits for open transactions, up to a bound. */
  close(): Promise<void>;
}

/** Runs the work in one transaction. */
export function inOneTransaction<T>(dialect: Dialect, work: (tx: Kysely<unknown>) => Promise<T>): Promise<T> {
  return new Kysely<unknown>({ dialect }).transaction().execute(work);
}
