import type { TestContext } from "node:test";
import { Connection, type Envelope, type SyncMessage } from "rabbitmq-client";
import { closeAfter, postgresForTest, rabbitmqForTest } from "#shared/testing";
import { type Program, runProgram } from "../../support/service-process.ts";
import { createShop, type Shop, type ShopOptions } from "./shop.ts";
import type { WorkerOptions } from "./worker.ts";

/** A database and names on the broker that are one test's, and shops on them: in this process and in others. */
export interface World {
  readonly url: string;
  readonly databaseUrl: string;
  readonly exchange: string;
  readonly queue: string;
  /** Keys of the `rabbitmq` section that its shops have. */
  readonly rabbitmq: Readonly<Record<string, unknown>>;
  /** Deletes the queue or exchange after the test. */
  alsoDelete(...names: string[]): void;
  /** Stopped after the test. */
  shop(changes?: Partial<ShopOptions>): Shop;
  /** A shop's process, killed after the test at the latest. `cwd`: of the repository that it belongs to; default this one. */
  worker(work: Omit<WorkerOptions, "shop">, changes?: Partial<ShopOptions>, cwd?: string): Program;
  /** Publishes with confirmation what no shop would. Default: to the exchange. */
  publish(envelope: Envelope, body: Buffer | string): Promise<void>;
  /** How many messages are in a queue, less those that somebody has in hand. Default: the work queue. */
  count(queue?: string): Promise<number>;
  /** Takes them out. */
  takeDeadLetters(): Promise<SyncMessage[]>;
}

/**
 * @param rabbitmq keys of the section besides url, exchange and queue
 * @returns undefined when the test is skipped
 */
export async function enterWorld(
  t: TestContext,
  rabbitmq: Readonly<Record<string, unknown>> = {},
  delays: readonly string[] = ["100ms"],
): Promise<World | undefined> {
  const databaseUrl = await postgresForTest(t);
  const broker = await rabbitmqForTest(t);
  if (databaseUrl === undefined || broker === undefined) return undefined;
  const { url } = broker;
  const exchange = broker.name("shop");
  const queue = broker.name("shop", ".dead", ".suspects", ...new Set(delays.map((delay) => `.retry.${delay}`)));
  const options: ShopOptions = {
    rabbitmq: { url, exchange, queue, retry: { delays }, ...rabbitmq },
    database: { url: databaseUrl },
    outbox: { leaseMs: 500 },
  };
  const rabbit = new Connection({ url, noDelay: true });
  rabbit.on("error", () => {}); // What matters rejects.
  closeAfter(t, () => rabbit.close());
  const publisher = rabbit.createPublisher({ confirm: true });
  closeAfter(t, () => publisher.close());

  return {
    url,
    databaseUrl,
    exchange,
    queue,
    rabbitmq: options.rabbitmq,
    alsoDelete: broker.alsoDelete,
    shop(changes) {
      const shop = createShop({ ...options, ...changes });
      closeAfter(t, () => shop.stop());
      return shop;
    },
    worker(work, changes, cwd) {
      const env = { WORKER: JSON.stringify({ shop: { ...options, ...changes }, ...work }) };
      const program = runProgram("test/faults/support/worker.ts", { env, ...(cwd !== undefined && { cwd }) });
      closeAfter(t, () => program.end("SIGKILL"));
      return program;
    },
    publish: (envelope, body) => publisher.send({ exchange, durable: true, ...envelope }, body),
    count: async (name = queue) => (await rabbit.queueDeclare({ queue: name, passive: true })).messageCount,
    async takeDeadLetters() {
      const letters: SyncMessage[] = [];
      for (;;) {
        const letter = await rabbit.basicGet({ queue: `${queue}.dead`, noAck: true });
        if (letter === undefined) return letters;
        letters.push(letter);
      }
    },
  };
}
