import type { TestContext } from "node:test";
import type { Envelope } from "rabbitmq-client";
import { codeOf, HEADERS, type RabbitmqConfig, rabbitmqSection, topologyOf } from "#shared/event-bus";
import { type Broker, openBroker } from "./broker.ts";

/** A work queue with its dead-letter queue, on a real RabbitMQ and of this test alone. */
export interface QueueForTest {
  readonly url: string;
  readonly broker: Broker;
  readonly queue: string;
  readonly deadLetterQueue: string;
  readonly config: RabbitmqConfig;
  /** Makes the exchange and the queues as a consumer does. */
  declare(): Promise<void>;
  /** Stores a message in a queue. */
  put(queue: string, envelope: Envelope, body?: Buffer): Promise<void>;
  /** Until the work queue takes no more: it needs a `max_length`. */
  fill(): Promise<void>;
  /** Takes all messages out. */
  take(queue: string): Promise<Taken[]>;
  count(queue: string): Promise<number>;
  delete(queue: string): Promise<void>;
}

export interface Taken {
  readonly id: string | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: unknown;
  readonly contentType: string | undefined;
  readonly durable: boolean | undefined;
}

const RETRY_DELAY = "1s";

/** What `rabbitmqForTest` answers. */
interface RabbitmqForTest {
  readonly url: string;
  name(base: string, ...suffixes: string[]): string;
}

/** The queues are not there yet. Without a RabbitMQ the answer is undefined, and the test is skipped by then. */
export async function queueForTest(
  t: TestContext,
  rabbitmq: RabbitmqForTest | undefined,
  yaml: Readonly<Record<string, unknown>> = {},
): Promise<QueueForTest | undefined> {
  if (rabbitmq === undefined) return undefined;
  const { url } = rabbitmq;
  const queue = rabbitmq.name("admin", ".dead", `.retry.${RETRY_DELAY}`);
  const exchange = rabbitmq.name("exchange");
  // A consumer that looks at its dead letters has them in hand for a moment.
  const settings = { topology_check_interval: 0, retry: { delays: [RETRY_DELAY] } };
  const config = rabbitmqSection.parse({ url, exchange, queue, ...settings, ...yaml });
  const broker = await openBroker(url);
  const channel = await broker.channel();
  t.after(async () => {
    await channel.close();
    await broker.close(2_000);
  });
  await channel.confirmSelect();
  function put(target: string, envelope: Envelope, body = Buffer.of()): Promise<void> {
    return channel.basicPublish({ durable: true, ...envelope, routingKey: target }, body);
  }

  return {
    url,
    broker,
    queue,
    deadLetterQueue: `${queue}.dead`,
    config,
    async declare() {
      const definition = { queue, bindingKeys: ["testing.#"], retryDelaysMs: config.retry.delaysMs };
      const { exchange: declaration, queues, bindings } = topologyOf(definition, config);
      await channel.exchangeDeclare(declaration);
      for (const declared of queues) await channel.queueDeclare(declared);
      for (const binding of bindings) await channel.queueBind(binding);
    },
    put,
    async fill() {
      // It is refused a little later than it is full.
      for (let isFull = false; !isFull; ) {
        isFull = await put(queue, { messageId: "filler" }).then(
          () => false,
          (error: unknown) => codeOf(error) === "NACK" || Promise.reject(error),
        );
      }
    },
    async take(target) {
      const taken: Taken[] = [];
      for (;;) {
        const message = await channel.basicGet({ queue: target, noAck: true });
        if (message === undefined) return taken;
        const { messageId: id, headers = {}, body, contentType, durable } = message;
        taken.push({ id, headers, body, contentType, durable });
      }
    },
    count: async (target) => (await channel.queueDeclare({ queue: target, passive: true })).messageCount,
    async delete(target) {
      await channel.queueDelete(target);
    },
  };
}

/** A dead letter as a consumer of ours makes it. */
export function deadLetter(id: string, more: Envelope = {}): Envelope {
  return {
    messageId: id,
    type: "testing.v1.Registered",
    contentType: "application/protobuf",
    ...more,
    headers: {
      "cloudEvents:id": id,
      "cloudEvents:source": "user-service",
      "cloudEvents:partitionkey": "ada",
      [HEADERS.originExchange]: "bookshop",
      [HEADERS.originRoutingKey]: "testing.registered",
      [HEADERS.attempt]: 6,
      [HEADERS.deadReason]: "attempts_exhausted",
      [HEADERS.deadError]: "Error: no such shelf",
      [HEADERS.deadAt]: "2026-01-02T03:04:05.678Z",
      ...more.headers,
    },
  };
}
