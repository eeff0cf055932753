import { connect } from "node:net";
import type { PostgresPoolClient } from "kysely";
import type pg from "pg";
import { bounded } from "#shared/timing";
import { databaseTimeout, databaseUnavailable, endsConnection, isReadOnly, isStatementTimeout } from "./errors.ts";

/** Knows which connections are of no more use, and why. */
export interface ConnectionWatch {
  /** To be called with each new client, before its first use. */
  watch(client: pg.ClientBase): void;
  /** From now on the client refuses queries as lost; its owner ends it. */
  giveUp(client: pg.ClientBase, cause: unknown): void;
  /** The client as Kysely wants it, with outages and timeouts as DomainErrors. */
  guard(client: pg.ClientBase, options: GuardOptions): PostgresPoolClient;
}

export interface GuardOptions {
  readonly release: (destroy: boolean) => void;
  /** On a session without settings of its own, which a pooler lends for one transaction or statement. */
  readonly pooled?: PooledSession | undefined;
}

export interface PooledSession {
  /** Statement that gives a transaction its settings. */
  readonly settings: string;
  /** Longest time for a statement outside of a transaction, which no setting limits. */
  readonly statementTimeoutMs: number;
}

const BEGIN = /^(begin|start transaction)\b/;
const CANCEL_REQUEST = 80_877_102;
const CANCEL_TIMEOUT_MS = 1_000;

/** @param onBroken called once for each connection that breaks, with the reason */
export function createConnectionWatch(onBroken: (cause: unknown) => void): ConnectionWatch {
  const broken = new WeakMap<pg.ClientBase, unknown>();

  function markBroken(client: pg.ClientBase, cause: unknown): void {
    if (broken.has(client)) return;
    broken.set(client, cause);
    onBroken(cause);
  }

  return {
    // pg takes its own listener off while a client is lent out: without this one, a connection that breaks between two
    // queries of a transaction ends the process.
    watch: (client) => client.on("error", (error) => markBroken(client, error)),
    giveUp: markBroken,
    guard(client, { release, pooled }) {
      let isInTransaction = false;
      /** The transaction was begun so that it refuses writes: that it does is no sign of a failover. */
      let isReadOnlyByChoice = false;

      function run(text: string, parameters: readonly unknown[]): Promise<unknown> {
        if (BEGIN.test(text)) {
          isInTransaction = true;
          isReadOnlyByChoice = text.includes("read only");
          if (pooled !== undefined) return client.query(`${text}; ${pooled.settings}`).then(() => noRows("BEGIN"));
        } else if (text === "commit" || text === "rollback") isInTransaction = false;
        else if (pooled !== undefined && !isInTransaction) {
          return cancelledAfter(pooled.statementTimeoutMs, client, client.query(text, [...parameters]));
        }
        return client.query(text, [...parameters]);
      }

      async function query(text: string, parameters: readonly unknown[]): Promise<unknown> {
        // A broken one fails at once: what is sent after a statement that was never answered would wait behind it.
        if (!broken.has(client)) {
          try {
            return await run(text, parameters);
          } catch (error) {
            const isLost = endsConnection(error) || isReadTimeout(error) || (isReadOnly(error) && !isReadOnlyByChoice);
            if (isLost) markBroken(client, error);
            if (!broken.has(client)) throw isStatementTimeout(error) ? databaseTimeout(error) : error;
          }
        }
        // The connection's end is the rollback. A failure here would hide the error that the rollback is for.
        if (text === "rollback") return noRows("ROLLBACK");
        throw databaseUnavailable("the connection to the database is lost", broken.get(client));
      }
      return {
        query: query as PostgresPoolClient["query"],
        release: (destroy = false) => release(destroy || broken.has(client)),
      };
    },
  };
}

function noRows(command: string) {
  return { command, rowCount: 0, rows: [] };
}

/** pg's `query_timeout`: the server has not even said that the statement timed out. */
function isReadTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === "Query read timeout";
}

/** Asks the server to end the statement when it takes too long; it then fails like by `statement_timeout`. */
async function cancelledAfter<T>(ms: number, client: pg.ClientBase, statement: Promise<T>): Promise<T> {
  if (!Number.isFinite(ms)) return await statement;
  let cancelling: Promise<void> | undefined;
  const timer = setTimeout(() => {
    cancelling = requestCancel(client);
  }, ms);
  try {
    return await statement;
  } finally {
    clearTimeout(timer);
    // A request that is still under way could hit the client's next statement.
    if (cancelling !== undefined) await bounded(cancelling, CANCEL_TIMEOUT_MS);
  }
}

/** Sends PostgreSQL's CancelRequest on a connection of its own, unencrypted as libpq does; the server closes it. */
function requestCancel(client: pg.ClientBase): Promise<void> {
  const { host, port, processID, secretKey } = client as pg.ClientBase & CancelKey;
  if (typeof processID !== "number" || typeof secretKey !== "number") return Promise.resolve();
  const request = Buffer.alloc(16);
  request.writeInt32BE(16, 0);
  request.writeInt32BE(CANCEL_REQUEST, 4);
  request.writeInt32BE(processID, 8);
  request.writeInt32BE(secretKey, 12);
  return new Promise((resolve) => {
    const socket = host.startsWith("/") ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
    socket.setTimeout(CANCEL_TIMEOUT_MS, () => socket.destroy());
    // The statement's own timeout on this side still ends the wait for it.
    socket.on("error", () => {});
    socket.on("close", () => resolve());
    socket.on("connect", () => socket.write(request));
    socket.resume();
  });
}

interface CancelKey {
  readonly host: string;
  readonly port: number;
  readonly processID: unknown;
  readonly secretKey: unknown;
}
