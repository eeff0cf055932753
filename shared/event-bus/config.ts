import { z } from "zod";
import { duration, section } from "#shared/config";

const retrySection = section({
  /**
   * Delays before the second, third … attempt at a message whose handler failed. After the last attempt it becomes a dead
   * letter.
   */
  delays: z
    .array(duration(undefined, { min: "1ms", max: "24h" }))
    .max(20)
    .prefault(["1s", "5s", "30s", "2m", "10m"]),
  /**
   * How long the failures of one message that are a peer's outage (`unavailable`) cost no attempt: it waits for the same
   * delays, the last one again and again. After that they count as attempts. 0: they always do.
   */
  peer_outage: duration("24h"),
});

/**
 * `rabbitmq` section of a service's YAML, with the original design's keys, which load unchanged. The keys below
 * `auto_delete` are additions, and optional. All but those of the connection apply to the in-process bus, too.
 */
export const rabbitmqSection = section(
  {
    /** false keeps events inside the process. Left out: true when there is a `url`. */
    enabled: z.boolean().optional(),
    /** Such as `amqp://guest:guest@localhost:5672/`, or `amqps://…` for TLS. */
    url: z
      .string()
      .regex(/^(amqps?:\/\/.*)?$/, 'expected "amqp://user:password@host:port/vhost"')
      .default(""),
    exchange: z.string().min(1).max(255),
    exchange_type: z.enum(["direct", "fanout", "topic", "headers"]).default("topic"),
    queue: z.string().min(1).max(200),
    /** Binding of the queue besides the routing keys of the events that it has handlers for, such as `user.#`. Empty: none. */
    routing_key: z.string().max(255).default(""),
    /** false: the queue is deleted after 30 minutes without a consumer, and the exchange at the broker's next restart. */
    durable: z.boolean().default(true),
    /** true: the queue is deleted after a minute without a consumer, and the exchange with its last binding. */
    auto_delete: z.boolean().default(false),

    /** Encoding of published events. Consumers read both. */
    encoding: z.enum(["protobuf", "json"]).default("protobuf"),
    /** Maximum time to connect. */
    connect_timeout: duration("5s", { min: "10ms" }),
    /** Interval of heartbeats, in whole seconds. A connection that is silent for twice as long is closed. */
    heartbeat: duration("10s", { min: "1s", max: "1h" }),
    /** Maximum time for the broker's confirmation, and as much again for each MiB that is to be confirmed. */
    publish_timeout: duration("5s", { min: "10ms" }),
    /** Maximum number of messages that a consumer has in memory. */
    prefetch: z.int().min(1).max(65_535).default(200),
    /** Maximum number of handlers at once; with an inbox, of transactions. Keep it below `database.pool_size`, or calls wait. */
    concurrency: z.int().min(1).max(1_000).default(4),
    /**
     * Maximum time of a handler, its `prepare` step included. Then its signal aborts, and the attempt has failed. Less than
     * half of `consumer_timeout`, and less than `database.idle_in_transaction_timeout` when the consumer has an inbox.
     */
    handler_timeout: duration("30s", { min: "1ms" }),
    /**
     * Number of deliveries without an answer after which a message becomes a dead letter, as when its handler kills the
     * process each time. The broker counts messages that a process had only in memory, too; those are put back.
     */
    delivery_limit: z.int().min(1).max(1_000_000).default(20),
    /**
     * The broker's `consumer_timeout`: it closes the channel of a consumer that leaves a message unanswered for longer. During
     * an outage of the service's database, messages go back to the broker before half of it is over. RabbitMQ's default.
     */
    consumer_timeout: duration("30m", { min: "1s" }),
    /**
     * true: an event that only `routing_key` matches, and for whose type no version of the service has a handler, is
     * acknowledged and counted. false: it becomes a dead letter with the reason `unknown_type`.
     */
    ignore_unknown: z.boolean().default(false),
    /**
     * How long the inbox knows an event that it has handled: a copy that comes later is handled again. Default: what the
     * retry delays and `retry.peer_outage` add up to, and 14 days for dead letters besides.
     */
    inbox_window: duration(undefined, { min: "1h" }).optional(),
    /** How often exchange, queues and bindings are looked for, and declared again when they are gone. 0: never. */
    topology_check_interval: duration("30s"),
    /** Maximum number of messages in the queue: more are refused, and stay in the outbox. 0: no limit. */
    max_length: z.int().min(0).default(0),
    /** true: one replica at a time gets the queue's messages, which keeps the order of a key over all replicas. */
    single_active_consumer: z.boolean().default(false),
    retry: retrySection.prefault({}),
  },
  (fields, fault) => {
    const { handler_timeout: handlerMs, consumer_timeout: consumerMs } = fields;
    if (handlerMs !== undefined && consumerMs !== undefined && handlerMs * 2 >= consumerMs) {
      fault("handler_timeout", "must be less than half of consumer_timeout: the broker would take the message away");
    }
  },
);

export type RabbitmqConfig = z.output<typeof rabbitmqSection>;

/** Whether events go over a broker. */
export function usesBroker(config: RabbitmqConfig): boolean {
  return config.enabled ?? config.url !== "";
}
