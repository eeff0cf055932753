import { randomUUID } from "node:crypto";
import process from "node:process";
import type { TestContext } from "node:test";
import type { Client } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import type { DiscoveryConfig } from "#shared/discovery";
import { clientAt, closeAfter, postgresForTest, type RecordedLog, recordLog } from "#shared/testing";
import { createTransportPool, grpcClientsSection, type ServiceState, type TransportPool } from "#shared/transport-pool";
import { freePort } from "../../support/free-port.ts";
import { ready, type ServiceProcess, startService } from "../../support/service-process.ts";

/** A process of book-service. */
export interface Replica {
  readonly port: number;
  readonly address: string;
  /** How many calls it has answered, as its access log says. */
  calls(): number;
  /** By SIGKILL; answers when it is gone. */
  kill(): Promise<void>;
  /** In order, by SIGTERM; answers when it is gone. */
  stop(): Promise<void>;
  /** By SIGSTOP: its connections stay, and nothing comes on them. */
  freeze(): void;
  thaw(): void;
}

/** Replicas of book-service, on one database that is the test's. */
export interface Replicas {
  /** The id of a book that is in the catalogue. */
  readonly bookId: string;
  /** Starts one more, and waits until it is ready. Default: on a free port, at 127.0.0.1. */
  start(port?: number, host?: string): Promise<Replica>;
}

/**
 * Starts `count` of them, ended after the test at the latest.
 *
 * @returns undefined when the test is skipped
 */
export async function replicasForTest(
  t: TestContext,
  count: number,
): Promise<(Replicas & { readonly first: readonly Replica[] }) | undefined> {
  const running = new Set<ServiceProcess>();
  // Before what drops the database.
  closeAfter(t, () => Promise.all([...running].map((program) => program.end("SIGKILL"))));
  const database = await postgresForTest(t);
  if (database === undefined) return undefined;
  const databaseUrl: string = database;

  async function start(port?: number, host = "127.0.0.1"): Promise<Replica> {
    const ownPort = port ?? (await freePort());
    const program = await startService("book", {
      SERVER_HOST: host,
      SERVER_PORT: String(ownPort),
      DATABASE_URL: databaseUrl,
      LOG_LEVEL: "info",
    });
    running.add(program);
    await ready({ url: `http://${host}:${ownPort}` });
    const signal = (name: NodeJS.Signals) => {
      if (program.pid !== undefined) process.kill(program.pid, name);
    };
    const calls = countLines(program.stdout, `"method":"${BookService.typeName}/`);
    const end = async (name: NodeJS.Signals) => {
      await program.end(name);
      running.delete(program);
    };
    return {
      port: ownPort,
      address: `${host}:${ownPort}`,
      calls,
      kill: () => end("SIGKILL"),
      stop: () => end("SIGTERM"),
      freeze: () => signal("SIGSTOP"),
      thaw: () => signal("SIGCONT"),
    };
  }

  // The first one makes the tables, before the others look for them.
  const first = [await start()];
  first.push(...(await Promise.all(Array.from({ length: count - 1 }, () => start()))));
  const books = clientAt(t, `http://${first[0]?.address}`, BookService);
  const { book } = await books.createBook({
    requestId: randomUUID(),
    title: "The Hobbit",
    author: "J. R. R. Tolkien",
    priceCents: 1_299n,
    stock: 3,
  });
  return { bookId: book?.id ?? "", start, first };
}

/** Looks at each line once, since there may be many and it is asked often. */
function countLines(lines: readonly string[], having: string): () => number {
  let seen = 0;
  let count = 0;
  return () => {
    for (; seen < lines.length; seen++) if (lines[seen]?.includes(having)) count++;
    return count;
  };
}

export interface BookPool {
  readonly pool: TransportPool;
  readonly books: Client<typeof BookService>;
  readonly log: RecordedLog;
  state(): ServiceState;
}

/** As the tests configure retries, unless one wants others. */
export const RETRY = { max: 3, timeout: "10s", backoff: "20ms" };

/** A pool with book-service in it, closed after the test. It has begun to connect. */
export function poolForTest(
  t: TestContext,
  address: string | readonly string[],
  service: Readonly<Record<string, unknown>> = {},
  discovery?: DiscoveryConfig,
): BookPool {
  const config = grpcClientsSection.parse({ services: [{ name: "book-service", address, retry: RETRY, ...service }] });
  // One line a call, at debug, would be a large part of the load.
  const log = recordLog("info");
  const pool = createTransportPool(config, {
    logger: log.logger,
    caller: "test",
    closeTimeoutMs: 0,
    ...(discovery === undefined ? {} : { discovery }),
  });
  closeAfter(t, () => pool.close());
  pool.connect();
  const state = () => {
    const [first] = pool.states();
    if (first === undefined) throw new Error("book-service is gone from the pool");
    return first;
  };
  return { pool, books: pool.client("book-service", BookService), log, state };
}

/** A call that changes nothing, and so may be sent twice. */
export function reading(books: Client<typeof BookService>, bookId: string): (n: number) => Promise<unknown> {
  return (n) => (n % 10 === 0 ? books.listBooks({ pageSize: 10 }) : books.getBook({ id: bookId }));
}
