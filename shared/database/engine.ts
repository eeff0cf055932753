import { type Dialect, Kysely } from "kysely";
import type { DatabaseLimits } from "./origin.ts";

/** What is under a Database: PostgreSQL with its pool, or an embedded PGlite. Whoever opened it closes it. */
export interface Engine {
  /** For logs; holds no secret. */
  readonly name: string;
  /** The one session of an embedded database. */
  readonly session?: object | undefined;
  readonly limits: DatabaseLimits;
  /**
   * A dialect over this engine's connections; there may be many. Every failure that is an outage comes out of it as a
   * DomainError `unavailable`.
   *
   * @param schema what unqualified names mean
   * @param admit called before each connection is handed out; throws to refuse
   */
  createDialect(schema: string, admit: () => void): Dialect;
  /**
   * Runs the work on one connection, alone in the database among all that call this, with no limit on a statement's
   * time.
   *
   * @param signal ends a wait for the lock or for a statement, where the engine can
   * @throws DomainError DATABASE_UNAVAILABLE when the database is away, or another holds the lock for long
   */
  exclusively<T>(work: (db: Kysely<unknown>) => Promise<T>, signal: AbortSignal): Promise<T>;
  /**
   * Whether the database answers; false when every connection is at work, which proves nothing.
   *
   * @throws DomainError DATABASE_UNAVAILABLE when it is away
   */
  probe(): Promise<boolean>;
  /** Waits for open transactions, up to a bound. */
  close(): Promise<void>;
}

/** Runs the work on one connection of its own. */
export function onOneConnection<T>(dialect: Dialect, work: (db: Kysely<unknown>) => Promise<T>): Promise<T> {
  return new Kysely<unknown>({ dialect }).connection().execute(work);
}
