import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { Connection } from "rabbitmq-client";
import { closeAfter } from "./close-after.ts";
import { within } from "./waiting.ts";

/** Default of `TEST_RABBITMQ_URL`. */
const LOCAL_RABBITMQ = "amqp://guest:guest@127.0.0.1:5672";

const CONNECT_TIMEOUT_MS = 5_000;
const DELETE_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2_000;

export interface RabbitmqForTest {
  readonly url: string;
  /**
   * Returns a unique name for a queue or an exchange. After the test it is deleted, and so are those with these suffixes: `name("orders", ".retry.200ms", ".dead")`.
   */
  name(base: string, ...suffixes: string[]): string;
  /** Deletes the queue or exchange after the test: for names that are known only later. */
  alsoDelete(...names: string[]): void;
}

/**
 * Connects to the shared RabbitMQ, on which tests use names of their own (`name`). Without one the test is skipped and the
 * result is undefined (return then); with `CI=true` it fails.
 */
export async function rabbitmqForTest(t: TestContext): Promise<RabbitmqForTest | undefined> {
  const url = process.env["TEST_RABBITMQ_URL"] ?? LOCAL_RABBITMQ;
  try {
    await connected(url, async () => {});
  } catch (error) {
    if (process.env["CI"] === "true") throw new Error("CI needs a RabbitMQ", { cause: error });
    t.skip(`no RabbitMQ for tests (TEST_RABBITMQ_URL): ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
  const names = new Set<string>();
  closeAfter(t, () => deleteAll(url, names));
  return {
    url,
    name(base, ...suffixes) {
      const name = `${base}_${randomBytes(8).toString("hex")}`;
      for (const suffix of ["", ...suffixes]) names.add(name + suffix);
      return name;
    },
    alsoDelete(...more) {
      for (const name of more) names.add(name);
    },
  };
}

async function deleteAll(url: string, names: ReadonlySet<string>): Promise<void> {
  if (names.size === 0) return;
  await connected(url, async (connection) => {
    const errors: unknown[] = [];
    for (const name of names) {
      // Deleting a queue or exchange that does not exist is no error.
      for (const remove of [() => connection.queueDelete(name), () => connection.exchangeDelete({ exchange: name })]) {
        await within<unknown>(remove(), `RabbitMQ to delete ${name}`, DELETE_TIMEOUT_MS).catch((error: unknown) => {
          if (!isLocked(error)) errors.push(error);
        });
      }
    }
    if (errors.length > 0)
      throw new AggregateError(errors, `the test left something in RabbitMQ: ${errors.join("; ")}`);
  });
}

/** An exclusive queue: the broker deletes it itself, a moment after its connection has closed. */
function isLocked(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "RESOURCE_LOCKED";
}

async function connected(url: string, work: (connection: Connection) => Promise<void>): Promise<void> {
  const connection = new Connection({ url, noDelay: true });
  connection.on("error", () => {}); // What matters rejects below.
  try {
    // Rejects with the first error: this connection is not waited for while it tries again.
    await within(once(connection, "connection"), "a connection with RabbitMQ", CONNECT_TIMEOUT_MS);
    await work(connection);
    await within(connection.close(), "RabbitMQ to close a connection", CLOSE_TIMEOUT_MS);
  } finally {
    connection.unsafeDestroy();
  }
}
