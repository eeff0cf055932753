import { randomUUID } from "node:crypto";
import pg from "pg";
import { Connection } from "rabbitmq-client";

/** Name of a run's schema, exchange and queue. */
const NAME = /^bench_[0-9a-f]{32}$/;
const STATEMENT_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 3_000;

export function createName(): string {
  return `bench_${randomUUID().replaceAll("-", "")}`;
}

/**
 * Opens a session on PostgreSQL that is named after the run. The server ends it with the process, also after SIGKILL, and by
 * that `removeLeftovers` tells runs that are going on from those that are dead.
 *
 * @returns a function that closes the session
 */
export async function markAlive(databaseUrl: string, name: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: name, keepAlive: true });
  client.on("error", () => {}); // What the run itself does fails then.
  await client.connect();
  return () => client.end();
}

/** Removes schemas, queues and exchanges of runs that were killed. @returns their names */
export async function removeLeftovers(rabbitmqUrl: string, databaseUrl: string): Promise<readonly string[]> {
  const names = await withDatabase(databaseUrl, async (client) => {
    const { rows } = await client.query<{ name: string }>(`
      select nspname as name from pg_namespace
      where not exists (select from pg_stat_activity where application_name = nspname)`);
    return rows.map(({ name }) => name).filter((name) => NAME.test(name));
  });
  for (const name of names) {
    await removeFromBroker(rabbitmqUrl, name);
    await removeFromDatabase(databaseUrl, name);
  }
  return names;
}

export async function removeFromBroker(rabbitmqUrl: string, name: string): Promise<void> {
  const rabbit = new Connection({ url: rabbitmqUrl, connectionName: `${name} remover` });
  rabbit.on("error", () => {}); // What is awaited rejects.
  try {
    const channel = await rabbit.acquire();
    for (const suffix of ["", ".dead", ".suspects"]) await channel.queueDelete(name + suffix);
    for (const suffix of ["", ".types"]) await channel.exchangeDelete({ exchange: name + suffix });
    await channel.close();
  } finally {
    rabbit.unsafeDestroy();
  }
}

export async function removeFromDatabase(databaseUrl: string, name: string): Promise<void> {
  await withDatabase(databaseUrl, (client) =>
    client.query(`set client_min_messages = warning; drop schema if exists "${name}" cascade`),
  );
}

async function withDatabase<T>(connectionString: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    connectionString,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  });
  client.on("error", () => {}); // What is awaited rejects.
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
