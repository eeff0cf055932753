import { setTimeout as delay } from "node:timers/promises";
import { type Kysely, sql } from "kysely";
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
import { createName, markAlive, removeFromBroker, removeFromDatabase } from "./leftovers.ts";

/**
 * Exchange, quorum queue and schema of one run. Both peers use the same queue, which is empty between measurements.
 */
export interface Stage {
  /** Connection of the bare client. */
  readonly rabbit: Connection;
  readonly exchange: string;
  readonly queue: string;
  /** A bus that is connected, for publishing. */
  readonly bus: EventBus;
  readonly db: Kysely<Tables>;
  readonly logger: ReturnType<typeof createLogger>;
  readonly config: RabbitmqConfig;
  /** Creates another bus on the same queue, for a consumer. */
  createBus(config?: Partial<RabbitmqConfig>): EventBus;
  /** Empties the queue. @returns the number of messages that were in it */
  purge(): Promise<number>;
  /** @throws Error when the queue is not empty */
  assertEmpty(): Promise<void>;
  /** Removes exchange, queues and schema. */
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
  const name = createName();
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
  const buses: EventBus[] = [];
  function createBus(overrides: Partial<RabbitmqConfig> = {}): EventBus {
    const settings = { ...config, ...overrides };
    const created = createEventBus({ config: settings, source: "bench", logger, readiness: createReadiness() });
    buses.push(created);
    return created;
  }
  const bus = createBus();

  let endSession = async () => {};
  async function open(): Promise<Channel> {
    endSession = await markAlive(databaseUrl, name);
    // First the schema: leftovers of a killed run are found by it.
    database.start();
    await database.ready(AbortSignal.timeout(STEP_MS));
    // Declares the queue; the consumer itself is never started.
    bus.consume({ events: [EventSchema], handlers: { "testing.v1.Greeted": () => {} } });
    await bus.start();
    return await rabbit.acquire();
  }

  /** Runs each step, also when others fail. */
  async function removeAll(): Promise<void> {
    const faults: unknown[] = [];
    // Ends the bare client's consumers and publishers.
    rabbit.unsafeDestroy();
    const steps = [
      // Before the removal: a connected bus declares its queues again.
      ...buses.map((each) => each.close),
      database.close,
      () => removeFromBroker(rabbitmqUrl, name),
      () => removeFromDatabase(databaseUrl, name),
      () => endSession(),
    ];
    for (const step of steps) {
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
        // A quorum queue updates its count a little later.
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
