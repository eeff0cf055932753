import { randomUUID } from "node:crypto";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PostgresDialect, sql } from "kysely";
import pg from "pg";
import { listDeadLetters, openBroker, redriveDeadLetters } from "#shared/events-cli";
import { closeAfter, startTcpProxy, type TcpProxy, until } from "#shared/testing";
import type { PrivateBroker } from "../../support/private-broker.ts";
import { type Program, runProgram } from "../../support/service-process.ts";
import { SCHEMA, type Tables, type Version } from "./orders.ts";
import { createSchedule, type Fault, type Slot, type Step, variantOf } from "./schedule.ts";
import type { WorkerOptions } from "./worker.ts";

const KEYS = ["a", "b", "c", "d"];
const RETRY_DELAYS = ["50ms", "100ms", "200ms", "400ms", "800ms"];
const REDRIVE_INTERVAL_MS = 500;
const CLOSE_TIMEOUT_MS = 2_000;
const LOG_LINES = 40;
/** After the last fault, on a machine that does other things too. */
const SETTLE_TIMEOUT_MS = 120_000;

/** What came of a schedule when all has settled, or when that took too long. */
export interface Run {
  readonly db: Kysely<Tables>;
  /** Reasons of the dead letters, which have been re-driven. */
  readonly deadLetters: readonly string[];
  /** What has failed besides, such as a process that has ended by itself. */
  readonly faults: readonly string[];
  /** What the processes have logged. */
  log(): string;
}

interface Place {
  version: Version | undefined;
  readonly broker: TcpProxy;
  readonly database: TcpProxy;
  program: Program;
}

/** Runs the schedule of a seed on processes with a database, an exchange and a queue of their own. */
export async function runSchedule(
  t: TestContext,
  seed: number,
  broker: PrivateBroker,
  databaseUrl: string,
): Promise<Run> {
  const variant = variantOf(seed);
  const queue = `orders_${randomUUID()}`;
  const programs: Program[] = [];
  const faults: string[] = [];
  const places: Place[] = [];
  const db = openTables(t, databaseUrl);

  async function addPlace(version: Version | undefined): Promise<void> {
    const { hostname, port } = new URL(databaseUrl);
    const links = {
      broker: await startTcpProxy({ port: broker.port }),
      database: await startTcpProxy({ host: hostname, port: Number(port || 5432) }),
    };
    for (const link of Object.values(links)) closeAfter(t, () => link.close());
    places.push({ ...links, version, program: start(version, links) });
  }

  function start(version: Version | undefined, links: Pick<Place, "broker" | "database">): Program {
    const work: WorkerOptions = {
      orders: {
        rabbitmq: {
          url: through(broker.url, links.broker),
          exchange: queue,
          queue,
          concurrency: 4,
          connect_timeout: "2s",
          publish_timeout: "2s",
          single_active_consumer: variant === "ordered",
          topology_check_interval: "2s",
          retry: { delays: RETRY_DELAYS },
        },
        database: { url: through(databaseUrl, links.database), probe_interval: "200ms", connect_timeout: "1s" },
        timeoutMs: 4_000,
        failing: variant === "unordered",
        ...(version !== undefined && { version }),
      },
      keys: version === undefined ? KEYS : [],
      pauseMs: 10,
    };
    const program = runProgram("test/faults/chaos/worker.ts", { env: { WORKER: JSON.stringify(work) } });
    programs.push(program);
    closeAfter(t, () => program.end("SIGKILL"));
    return program;
  }

  /** In order, as soon as it listens to the signal. */
  async function end(program: Program): Promise<void> {
    await program.line(/^started/);
    const exit = await program.end("SIGTERM");
    if (exit !== 0) faults.push(`process ${program.pid} has ended with ${exit}`);
  }

  async function replace(slot: Slot, signal: "SIGKILL" | "SIGTERM", version?: Version): Promise<void> {
    const place = placeOf(slot);
    const exit = await place.program.end(signal);
    if (exit !== 0 && exit !== signal) faults.push(`process ${place.program.pid} has ended with ${exit} at ${signal}`);
    place.version = version ?? place.version;
    place.program = start(place.version, place);
  }

  function placeOf(slot: Slot): Place {
    const place = places[slot];
    if (place === undefined) throw new Error(`there is no process ${slot}`);
    return place;
  }

  /** Faults of one process, or of the broker, come one after the other; others at the same time. */
  const queues = new Map<string, Promise<void>>();
  function inTurn(what: string, work: () => Promise<void>): void {
    const done = (queues.get(what) ?? Promise.resolve())
      .then(work)
      .catch((error: unknown) => void faults.push(`${what}: ${error}`));
    queues.set(what, done);
  }

  async function apply(fault: Fault): Promise<void> {
    switch (fault.kind) {
      case "end process":
        return inTurn(`process ${fault.slot}`, () => replace(fault.slot, fault.signal));
      case "deploy":
        return inTurn(`process ${fault.slot}`, () => replace(fault.slot, "SIGTERM", fault.version));
      case "restart broker":
        return inTurn("broker", async () => {
          await (fault.signal === "SIGKILL" ? broker.kill() : broker.stop());
          await broker.start();
        });
      case "cut link":
        return placeOf(fault.slot)[fault.to].cut();
      case "stall link":
        return inTurn(`${fault.to} of ${fault.slot}`, async () => {
          const link = placeOf(fault.slot)[fault.to];
          link.stall();
          await delay(fault.forMs);
          link.resume();
        });
      case "terminate sessions":
        await sql`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name like 'meridian-%'
        `.execute(db);
    }
  }

  // The consumers first, since they declare the queue.
  for (const version of ["second", variant === "ordered" ? "second" : "first", undefined] as const) {
    await addPlace(version);
    await places.at(-1)?.program.line(/^started/);
  }
  await play(createSchedule(seed), apply);
  await Promise.all(queues.values());

  // No more orders, and both replicas have all handlers.
  await end(placeOf(2).program);
  for (const slot of [0, 1] as const) if (placeOf(slot).version === "first") await replace(slot, "SIGTERM", "second");
  const deadLetters: string[] = [];
  let lookAt = 0;
  const isSettled = async () => {
    if (performance.now() >= lookAt) {
      deadLetters.push(...(await redriveAll(broker.url, queue)));
      lookAt = performance.now() + REDRIVE_INTERVAL_MS;
    }
    return (await unsettled(db)) === 0;
  };
  await until("all orders to settle", isSettled, SETTLE_TIMEOUT_MS).catch((error: unknown) =>
    faults.push(String(error)),
  );
  for (const slot of [0, 1] as const) await end(placeOf(slot).program);
  return { db, deadLetters, faults, log: () => programs.map(tailOf).join("\n") };
}

/** Each step at its time. */
async function play(steps: readonly Step[], apply: (fault: Fault) => Promise<void>): Promise<void> {
  const startedAt = performance.now();
  for (const { atMs, fault } of steps) {
    await delay(Math.max(0, startedAt + atMs - performance.now()));
    await apply(fault);
  }
}

/** The reasons of those that there were. */
async function redriveAll(url: string, queue: string): Promise<string[]> {
  const broker = await openBroker(url);
  try {
    const { deadLetters } = await listDeadLetters(broker, { queue, limit: 10_000 });
    if (deadLetters.length > 0) await redriveDeadLetters(broker, { queue, limit: deadLetters.length });
    return deadLetters.map(({ reason }) => reason ?? "none");
  } finally {
    await broker.close(CLOSE_TIMEOUT_MS);
  }
}

/** How many events are in the outbox, or have had no effect yet. */
async function unsettled(db: Kysely<Tables>): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select (select count(*) from outbox) + (select count(*) from outbox_deferred)
      + (select count(*) * 3 from orders) - (select count(distinct (name, effect)) from effects) as count`.execute(db);
  return Number(rows[0]?.count);
}

/** Past the links, which the schedule breaks. */
function openTables(t: TestContext, connectionString: string): Kysely<Tables> {
  const pool = new pg.Pool({ connectionString, options: `-c search_path=${SCHEMA}`, max: 2 });
  pool.on("error", () => {}); // A query rejects.
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  closeAfter(t, () => db.destroy());
  return db;
}

function through(url: string, link: TcpProxy): string {
  const changed = new URL(url);
  changed.host = `127.0.0.1:${link.port}`;
  return changed.href;
}

function tailOf({ pid, stdout, stderr }: Program): string {
  return [`process ${pid}`, ...stdout.slice(-LOG_LINES), stderr()].join("\n");
}
