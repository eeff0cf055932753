import type { PGlite } from "@electric-sql/pglite";
import { CompiledQuery, type Dialect, PGliteDialect } from "kysely";
import { bounded } from "#shared/timing";
import { columnParsers } from "./column-types.ts";
import { type EmbeddedLocation, embeddedLocation } from "./config.ts";
import { type Engine, inOneTransaction } from "./engine.ts";
import { databaseBusy, databaseUnavailable } from "./errors.ts";
import { type FolderLock, lockFolder } from "./folder-lock.ts";
import { createSessionLock } from "./session-lock.ts";
import { shareSession } from "./shared-session.ts";

/** An open PGlite, for one or many Databases. */
export interface Embedded extends Engine {}

const UNLIMITED = {
  statementTimeoutMs: Number.POSITIVE_INFINITY,
  idleInTransactionTimeoutMs: Number.POSITIVE_INFINITY,
  poolSize: Number.POSITIVE_INFINITY,
} as const;
const SESSION_TIMEOUT_MS = 3_000;
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * Opens the embedded database of a `pglite:` URL. That takes one to three seconds and some 500 MB, so one a process is
 * enough: Databases made with it share its one session and take turns. A query waits for the end of another's transaction;
 * after 3 s it fails with DATABASE_TIMEOUT. So does every query that a transaction makes past itself, with `db` where
 * `trx` was meant.
 *
 * Data is there after a restart and after a crash of the process; a power cut may cost it.
 *
 * @throws Error when another process has the folder (it names both), or the URL is not `pglite:`
 */
export async function openEmbedded(url: string): Promise<Embedded> {
  const location = embeddedLocation(url);
  if (location === undefined) throw new TypeError("openEmbedded: expected a pglite: URL");
  const embedded = createEmbedded(location, SESSION_TIMEOUT_MS);
  await embedded.probe(true);
  return embedded;
}

/** Opens when it is first used. */
export function createEmbedded(location: EmbeddedLocation, sessionTimeoutMs: number): Embedded {
  const session = createSessionLock(sessionTimeoutMs);
  let open: OpenFolder | undefined;
  const own = new PGliteDialect({
    async pglite() {
      open = await openFolder(location);
      return open.pglite;
    },
  });
  const driver = own.createDriver();
  let opening: Promise<void> | undefined;
  let closing: Promise<void> | undefined;

  async function opened(): Promise<void> {
    if (closing !== undefined) throw databaseUnavailable("the embedded database is closed");
    // One that fails is tried again: the folder may be free by then.
    opening ??= driver.init().catch((error: unknown) => {
      opening = undefined;
      throw error;
    });
    await opening;
  }

  async function takeSession(): Promise<void> {
    await opened();
    try {
      await session.acquire();
    } catch (error) {
      throw databaseBusy(error);
    }
    try {
      // Again: it may have been closed in the meantime, and Kysely's `begin` on a closed PGlite never returns.
      await opened();
    } catch (error) {
      session.release();
      throw error;
    }
  }

  async function closeNow(): Promise<void> {
    await opening?.catch(() => {});
    if (open === undefined) return;
    // PGlite waits for the transaction that is open. Without the end of it the folder stays locked: it is in use.
    const closed = await bounded(open.pglite.close(), CLOSE_TIMEOUT_MS);
    if (closed.kind === "overran") throw new Error("the embedded database is left open: a transaction does not end");
    if (closed.kind === "failed") throw closed.cause;
    open.lock?.release();
  }

  // A setting of the session, which all schemas share: it is set again when the turn goes to another one.
  let searchPath: string | undefined;

  const createDialect = (schema: string, admit: () => void): Dialect =>
    shareSession(own, driver, {
      async take() {
        admit();
        await takeSession();
      },
      async enter(connection) {
        if (searchPath === schema) return;
        await connection.executeQuery(CompiledQuery.raw(`set search_path to "${schema}", public`));
        searchPath = schema;
      },
      release: session.release,
    });

  return {
    name: location === "memory" ? "PGlite in memory" : `PGlite in ${location.folder}`,
    session,
    limits: UNLIMITED,
    createDialect,
    async inOwnTransaction(work, signal) {
      signal.throwIfAborted();
      return await inOneTransaction(
        createDialect("public", () => {}),
        work,
      );
    },
    async probe() {
      // It is in this process: there is no wire to break.
      await opened();
      return true;
    },
    close() {
      closing ??= closeNow();
      return closing;
    },
  };
}

interface OpenFolder {
  readonly pglite: PGlite;
  readonly lock?: FolderLock;
}

async function openFolder(location: EmbeddedLocation): Promise<OpenFolder> {
  const lock = location === "memory" ? undefined : lockFolder(location.folder);
  try {
    // Here and not at the top: what runs on PostgreSQL does not pay for loading it.
    const { PGlite } = await import("@electric-sql/pglite");
    const dataDir = location === "memory" ? "memory://" : location.folder;
    const pglite = await PGlite.create({ dataDir, parsers: { ...columnParsers } });
    return { pglite, ...(lock !== undefined && { lock }) };
  } catch (error) {
    lock?.release();
    throw error;
  }
}
