import { z } from "zod";
import { duration, section } from "#shared/config";
import { sessionSettings } from "./session-settings.ts";

/**
 * The `database` section.
 *
 * - `url`: `postgres://user:password@host:5432/name` (what libpq's URLs can say, `sslmode` too), `pglite:.data/dev` for an
 *   embedded database in that folder, or `pglite:memory` for one that ends with the process.
 * - `migration_url`: where migrations run instead, optional: past a connection pooler, or as a role that may change
 *   tables. Without it they run by `url`, which a pooler in transaction mode allows too.
 * - `pool_size`: maximum number of connections to PostgreSQL, default 10. The embedded database has one session.
 * - `statement_timeout`: PostgreSQL ends a statement that runs longer, default 5s. The embedded database cannot.
 * - `idle_in_transaction_timeout`: PostgreSQL ends a session that is silent for longer inside a transaction, default 60s.
 *   It must be longer than `statement_timeout`, and longer than what a handler does between two statements. Both limits
 *   give way to parameters of the URL: `statement_timeout`, `idle_in_transaction_session_timeout`, and those in `options`.
 * - `connect_timeout`: longest wait for a connection, new or from the pool, default 3s.
 * - `probe_interval`: time between two probes for an outage that no query has met, default 5s.
 */
export const databaseSection = section(
  {
    url: databaseUrl(urlFault),
    migration_url: databaseUrl(postgresUrlFault).optional(),
    pool_size: z.int().min(1).max(1000).default(10),
    statement_timeout: duration("5s", { min: "1ms" }),
    idle_in_transaction_timeout: duration("60s", { min: "1ms" }),
    connect_timeout: duration("3s", { min: "1ms" }),
    probe_interval: duration("5s", { min: "10ms" }),
  },
  ({ url, migration_url, statement_timeout, idle_in_transaction_timeout }, fault) => {
    if (migration_url !== undefined && url !== undefined && embeddedLocation(url) !== undefined) {
      fault("migration_url", "is for PostgreSQL: url names an embedded database");
    }
    if (statement_timeout === undefined || idle_in_transaction_timeout === undefined) return;
    const configured = {
      statementTimeoutMs: statement_timeout,
      idleInTransactionTimeoutMs: idle_in_transaction_timeout,
    };
    const isPostgresUrl = url !== undefined && postgresUrlFault(url) === undefined;
    const limits = isPostgresUrl ? sessionSettings(configured, url, "public").limits : configured;
    const { statementTimeoutMs, idleInTransactionTimeoutMs } = limits;
    if (Number.isFinite(statementTimeoutMs) && idleInTransactionTimeoutMs <= statementTimeoutMs) {
      fault("idle_in_transaction_timeout", "must be longer than statement_timeout (parameters of the url count)");
    }
  },
);

export type DatabaseConfig = z.output<typeof databaseSection>;

/** Where an embedded database keeps its data. */
export type EmbeddedLocation = "memory" | { readonly folder: string };

const EMBEDDED = "pglite:";

/** What a `pglite:` URL means; undefined for PostgreSQL's. */
export function embeddedLocation(url: string): EmbeddedLocation | undefined {
  if (!url.startsWith(EMBEDDED)) return undefined;
  const folder = url.slice(EMBEDDED.length);
  return folder === "memory" ? "memory" : { folder };
}

/** A PostgreSQL URL for logs: without user, password and parameters. */
export function describePostgres(url: string): string {
  const { host, pathname } = new URL(url);
  return `PostgreSQL at ${host}${pathname}`;
}

function databaseUrl(faultOf: (url: string) => string | undefined) {
  return z.string().superRefine((url, context) => {
    const fault = faultOf(url);
    // The message names no part of the URL: it may hold a password.
    if (fault !== undefined) context.addIssue({ code: "custom", message: fault });
  });
}

function urlFault(url: string): string | undefined {
  const location = embeddedLocation(url);
  if (location !== undefined) {
    const named = location === "memory" || location.folder !== "";
    return named ? undefined : 'name a folder ("pglite:.data/dev") or "pglite:memory"';
  }
  if (isPostgres(url)) return postgresUrlFault(url);
  return 'expected "postgres://user:password@host:port/name", "pglite:folder" or "pglite:memory"';
}

function postgresUrlFault(url: string): string | undefined {
  if (isPostgres(url) && URL.canParse(url)) return undefined;
  return 'expected "postgres://user:password@host:port/name" (a password\'s special characters must be percent-encoded)';
}

function isPostgres(url: string): boolean {
  return /^postgres(ql)?:\/\//.test(url);
}
