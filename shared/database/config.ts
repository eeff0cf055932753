import { z } from "zod";
import { duration, section } from "#shared/config";

/**
 * The `database` section.
 *
 * - `url`: `postgres://user:password@host:5432/name` (what libpq's URLs can say, `sslmode` too), `pglite:.data/dev` for an
 *   embedded database in that folder, or `pglite:memory` for one that ends with the process.
 * - `pool_size`: the most connections to PostgreSQL, 10. The embedded database has one session, whatever this says.
 * - `statement_timeout`: PostgreSQL ends a statement that runs longer, 5s. The embedded database cannot interrupt one.
 * - `connect_timeout`: the longest wait for a connection, new or from the pool, 3s.
 * - `probe_interval`: how often an outage is looked for when no query has met one, 5s.
 */
export const databaseSection = section({
  url: z.string().superRefine((url, context) => {
    const fault = urlFault(url);
    // The message names no part of the URL: it may hold a password.
    if (fault !== undefined) context.addIssue({ code: "custom", message: fault });
  }),
  pool_size: z.int().min(1).max(1000).default(10),
  statement_timeout: duration("5s", { min: "1ms" }),
  connect_timeout: duration("3s", { min: "1ms" }),
  probe_interval: duration("5s", { min: "10ms" }),
});

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

function urlFault(url: string): string | undefined {
  const location = embeddedLocation(url);
  if (location !== undefined) {
    const named = location === "memory" || location.folder !== "";
    return named ? undefined : 'name a folder ("pglite:.data/dev") or "pglite:memory"';
  }
  const expected = 'expected "postgres://user:password@host:port/name", "pglite:folder" or "pglite:memory"';
  if (!/^postgres(ql)?:\/\//.test(url)) return expected;
  return URL.canParse(url) ? undefined : `${expected} (a password's special characters must be percent-encoded)`;
}
