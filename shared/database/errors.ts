import { DomainError } from "#shared/errors";

/** The reason of every failure that is the database's absence; the code is `unavailable`. */
export const DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE";
/**
 * The reason when a statement ran longer than `statement_timeout`, or no connection was free within `connect_timeout`;
 * the code is `unavailable`.
 */
export const DATABASE_TIMEOUT = "DATABASE_TIMEOUT";

// SQLSTATEs: PostgreSQL's documentation, appendix A.
const UNIQUE_VIOLATION = "23505";
const READ_ONLY_SQL_TRANSACTION = "25006";
const DEADLOCK_DETECTED = "40P01";
const TOO_MANY_CONNECTIONS = "53300";
const OBJECT_NOT_IN_PREREQUISITE_STATE = "55000";
const LOCK_NOT_AVAILABLE = "55P03";
const QUERY_CANCELED = "57014";

/**
 * Failure to reach this process's own database. Only this module creates it, so that the error of a peer or of a handler
 * with the same reason is never taken for an outage.
 */
class DatabaseUnavailableError extends DomainError {}

/** A migration that waits for a lock, or for another replica's migration; it is tried again. */
export class MigrationWaiting extends Error {
  /** Whether the attempt has made the running version wait too. */
  readonly holdsUpOthers: boolean;

  constructor(message: string, holdsUpOthers: boolean, cause?: unknown) {
    super(message, { cause });
    this.holdsUpOthers = holdsUpOthers;
  }
}

/** `message` may reach callers: it names no host. The cause does, and is logged. */
export function databaseUnavailable(message: string, cause?: unknown): DomainError {
  return new DatabaseUnavailableError(
    "unavailable",
    DATABASE_UNAVAILABLE,
    message,
    cause === undefined ? {} : { cause },
  );
}

export function databaseTimeout(cause: unknown): DomainError {
  return new DomainError("unavailable", DATABASE_TIMEOUT, "the database took too long", { cause });
}

/**
 * Whether the error says that this process's own database is away. An error of another origin with the reason
 * DATABASE_UNAVAILABLE is not one: neither a peer's, nor a handler's.
 */
export function isOutage(error: unknown): error is DomainError {
  return error instanceof DatabaseUnavailableError;
}

/** No connection was free in time, though the database is there. */
export function databaseBusy(cause: unknown): DomainError {
  return new DomainError("unavailable", DATABASE_TIMEOUT, "no connection to the database was free in time", { cause });
}

/** Whether PostgreSQL's own error means that this connection is of no more use. */
export function endsConnection(error: unknown): boolean {
  const state = sqlState(error);
  if (state === undefined) return false;
  // 08 connection exceptions · 57P01-57P05 shutdowns, starting up, dropped, idle · 25P03 idle in a transaction
  return state.startsWith("08") || /^57P0[1-5]$/.test(state) || state === "25P03";
}

/** Whether a statement failed because the server takes no writes: a standby, or a primary that has been demoted. */
export function isReadOnly(error: unknown): boolean {
  const state = sqlState(error);
  if (state === OBJECT_NOT_IN_PREREQUISITE_STATE) return /recovery/.test(inOneLine(error));
  return state === READ_ONLY_SQL_TRANSACTION;
}

/** Whether a connection was refused because there are too many, by PostgreSQL or by PgBouncer. */
export function isTooManyConnections(error: unknown): boolean {
  return sqlState(error) === TOO_MANY_CONNECTIONS || /no more connections allowed/.test(inOneLine(error));
}

/** Whether a connection was refused because of the settings in its startup packet, as poolers do. */
export function refusesOptions(error: unknown): boolean {
  return /^(08P01|0A000)$/.test(sqlState(error) ?? "") && /startup parameter|options/i.test(inOneLine(error));
}

/** Whether a statement was ended for running longer than `statement_timeout`. */
export function isStatementTimeout(error: unknown): boolean {
  return sqlState(error) === QUERY_CANCELED;
}

/** Whether a lock could not be had within `lock_timeout`, or only by ending another's wait for one. */
export function isLockConflict(error: unknown): boolean {
  const state = sqlState(error);
  return state === LOCK_NOT_AVAILABLE || state === DEADLOCK_DETECTED;
}

/**
 * The name of the unique constraint or index that a write violated, the same on both engines; undefined for any other
 * error. Name constraints in migrations and compare with that name:
 * `if (violatedConstraint(error) === "users_email_key") throw new DomainError("already_exists", "EMAIL_TAKEN", …)`.
 */
export function violatedConstraint(error: unknown): string | undefined {
  if (sqlState(error) !== UNIQUE_VIOLATION) return undefined;
  const { constraint } = error as { constraint?: unknown };
  return typeof constraint === "string" ? constraint : undefined;
}

/** What an error says in one line: a failure to reach both addresses of a host has no message, only a code. */
export function inOneLine(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  return error.message || (typeof code === "string" ? code : error.name);
}

function sqlState(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as { code?: unknown };
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}
