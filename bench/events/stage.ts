import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type Kysely, sql } from "kysely";
import pg from "pg";
import { type Channel, Connection } from "rabbitmq-client";
import { createDatabase, databaseSection, type Migration } from "#shared/database";
import {
  createEventBus,
  type EventBus,
  inboxMigration,
  outboxMigration,
  type RabbitmqConfig,
  rabbitmqSection,
} from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { createLogger, logSection } from "#shared/logging";
import { within } from "../support/within.ts";
import { EventSchema } from "./event.ts";

/**
 * What the benchmarks run on: one exchange with one quorum queue behind it, the same for both peers and empty between
 * measurements, and one schema.
 */
export interface Stage {
  /** The bare client's connection, ours for looking after the queue too. */
  readonly rabbit: Connection;
  readonly exchange: string;
  readonly queue: string;
  /** A bus that is connected, to publish with. */
  readonly bus: EventBus;
  readonly db: Kysely<Tables>;
  readonly logger: ReturnType<typeof createLogger>;
  readonly config: RabbitmqConfig;
  /** One more bus on the same queue, for a consumer to be added. */
  createBus(config?: Partial<RabbitmqConfig>): EventBus;
  /** Empties the queue, and says how many messages there were. */
  purge(): Promise<number>;
  /** @throws Error when the queue is not empty */
  assertEmpty(): Promise<void>;
  /** Removes whatever it has made. */
  close(): Promise<void>;
}

export interface Tables {
  outbox: { shard: number; key: string; event_id: string };
  effects: { event_id: string };
}

const STEP_MS = 10_000;
const LOOK_EVERY_MS = 20;
const MOST_LOOKS = 100;

const effectsMigration: Migration = {
  async up(db) {
    await sql`create table effects (event_id text not null)`.execute(db);
  },
};

export async function openStage(rabbitmqUrl: string, databaseUrl: string): Promise<Stage> {
  const name = `bench_${randomUUID().replaceAll("-", "")}`;
  const logger = createLogger({ name: "bench", config: logSection.parse({ level: "error" }) });
  const config = rabbitmqSection.parse({
    url: rabbitmqUrl,
    exchange: name,
    queue: name,
    publish_timeout: "30s",
    retry: { delays: [] },
  });
  // Nagle's algorithm off, as it is for ours.
  const rabbit = new Connection({ url: rabbitmqUrl, connectionName: `${name} bare`, noDelay: true });
  rabbit.on("error", (err) => logger.error({ err }, "the bare client's connection failed"));
  const database = createDatabase<Tables>({
    config: databaseSection.parse({ url: databaseUrl }),
    schema: name,
    migrations: { "001_outbox": outboxMigration, "002_inbox": inboxMigration, "003_effects": effectsMigration },
    logger,
    readiness: createReadiness(),
  });
  const createBus = (overrides: Partial<RabbitmqConfig> = {}) =>
    createEventBus({ config: { ...config, ...overrides }, source: "bench", logger, readiness: createReadiness() });
  const bus = createBus();

  async function open(): Promise<Channel> {
    // Never started: its queue is what matters.
    bus.consume({ events: [EventSchema], handlers: { "testing.v1.Greeted": () => {} } });
    await bus.start();
    database.start();
    await database.ready(AbortSignal.timeout(STEP_MS));
    return await rabbit.acquire();
  }

  async function removeFromBroker(): Promise<void> {
    // Whatever still runs on it.
    rabbit.unsafeDestroy();
    const remover = new Connection({ url: rabbitmqUrl, connectionName: `${name} remover` });
    remover.on("error", () => {});
    try {
      const channel = await remover.acquire();
      for (const queue of [name, `${name}.dead`]) await channel.queueDelete(queue);
      await channel.exchangeDelete({ exchange: name });
      await channel.close();
    } finally {
      remover.unsafeDestroy();
    }
  }

  async function removeFromDatabase(): Promise<void> {
    const client = new pg.Client({ connectionString: databaseUrl, statement_timeout: STEP_MS });
    await client.connect();
    await client.query(`set client_min_messages = warning; drop schema if exists "${name}" cascade`);
    await client.end();
  }

  /** Each step, whatever became of the others. */
  async function removeAll(): Promise<void> {
    const faults: unknown[] = [];
    for (const step of [bus.close, database.close, removeFromBroker, removeFromDatabase]) {
      await within(STEP_MS, `removing ${name}`, step()).catch((fault: unknown) => faults.push(fault));
    }
    if (faults.length > 0) throw new AggregateError(faults, `${name} is not all gone: ${faults.join("; ")}`);
  }
  let closed: Promise<void> | undefined;
  function close(): Promise<void> {
    closed ??= removeAll();
    return closed;
  }

  try {
    const channel = await within(STEP_MS, "connecting", open());
    return {
      rabbit,
      exchange: name,
      queue: name,
      bus,
      db: database.db,
      logger,
      config,
      createBus,
      async purge() {
        const { messageCount } = await channel.queuePurge(name);
        return messageCount;
      },
      async assertEmpty() {
        // A quorum queue counts some time after it was told.
        for (let looks = 1; ; looks++) {
          const { messageCount } = await channel.queueDeclare({ queue: name, passive: true });
          if (messageCount === 0) return;
          if (looks === MOST_LOOKS) throw new Error(`${messageCount} messages were left in the queue`);
          await delay(LOOK_EVERY_MS);
        }
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
