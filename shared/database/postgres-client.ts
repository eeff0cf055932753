import type { PostgresPoolClient } from "kysely";
import type pg from "pg";
import { databaseTimeout, databaseUnavailable, endsConnection, isStatementTimeout } from "./errors.ts";

/** Knows which connections are of no more use, and why. */
export interface ConnectionWatch {
  /** To be called with each new client, before its first use. */
  watch(client: pg.ClientBase): void;
  /** From now on the client refuses queries as lost; its owner ends it. */
  giveUp(client: pg.ClientBase, cause: unknown): void;
  /** The client as Kysely wants it, with outages and timeouts as DomainErrors. */
  guard(client: pg.ClientBase, release: (destroy: boolean) => void): PostgresPoolClient;
}

/** @param onBroken called once for each connection that breaks */
export function createConnectionWatch(onBroken: () => void): ConnectionWatch {
  const broken = new WeakMap<pg.ClientBase, unknown>();

  function markBroken(client: pg.ClientBase, cause: unknown): void {
    if (broken.has(client)) return;
    broken.set(client, cause);
    onBroken();
  }

  return {
    // pg takes its own listener off while a client is lent out: without this one, a connection that breaks between two
    // queries of a transaction ends the process.
    watch: (client) => client.on("error", (error) => markBroken(client, error)),
    giveUp: markBroken,
    guard(client, release) {
      async function query(text: string, parameters: readonly unknown[]): Promise<unknown> {
        // A broken one fails at once: what is sent after a statement that was never answered would wait behind it.
        if (!broken.has(client)) {
          try {
            return await client.query(text, [...parameters]);
          } catch (error) {
            if (endsConnection(error) || isReadTimeout(error)) markBroken(client, error);
            if (!broken.has(client)) throw isStatementTimeout(error) ? databaseTimeout(error) : error;
          }
        }
        // The connection's end is the rollback. A failure here would hide the error that the rollback is for.
        if (text === "rollback") return { command: "ROLLBACK", rowCount: 0, rows: [] };
        throw databaseUnavailable("the connection to the database is lost", broken.get(client));
      }
      return {
        query: query as PostgresPoolClient["query"],
        release: (destroy = false) => release(destroy || broken.has(client)),
      };
    },
  };
}

/** pg's `query_timeout`: the server has not even said that the statement timed out. */
function isReadTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === "Query read timeout";
}
