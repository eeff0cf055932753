import { z } from "zod";
import { duration, section } from "#shared/config";

const retrySection = section({
  /**
   * How long a message that a handler failed on waits before its second, third … attempt. After the last one it becomes
   * a dead letter.
   */
  delays: z
    .array(duration(undefined, { min: "1ms", max: "24h" }))
    .max(20)
    .prefault(["1s", "5s", "30s", "2m", "10m"]),
});

/**
 * `rabbitmq` of a service's YAML, with the original design's keys: they load as they are. The keys below `auto_delete` are
 * ours and optional; all but those of the connection hold for the in-process bus too.
 */
export const rabbitmqSection = section({
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
  /** What the queue is bound by besides the events that it has handlers for, such as `user.#`. Empty: by those alone. */
  routing_key: z.string().max(255).default(""),
  /** false: the queue goes when nobody has used it for 30 minutes, and the exchange with the broker's next restart. */
  durable: z.boolean().default(true),
  /** true: the queue goes when nobody has used it for a minute, and the exchange with its last binding. */
  auto_delete: z.boolean().default(false),

  /** What events are written as. Both are read, whatever this says. */
  encoding: z.enum(["protobuf", "json"]).default("protobuf"),
  /** The longest wait for a connection to be made. */
  connect_timeout: duration("5s", { min: "10ms" }),
  /** A connection that is silent for twice as long is given up. Whole seconds. */
  heartbeat: duration("10s", { min: "1s", max: "1h" }),
  /** The longest wait for the broker's confirmation. */
  publish_timeout: duration("5s", { min: "10ms" }),
  /** The most messages that a consumer has in memory. */
  prefetch: z.int().min(1).max(65_535).default(200),
  /** The most handlers at once; with an inbox, the most transactions. Below `database.pool_size`, or calls would wait. */
  concurrency: z.int().min(1).max(1_000).default(4),
  /** How long a handler may take before its signal aborts and the attempt counts as failed. */
  handler_timeout: duration("30s", { min: "1ms" }),
  /**
   * After so many deliveries that nobody answered, as when each kills the process, the broker makes a dead letter. It counts
   * what a process had in hand when it stopped or was killed, too.
   */
  delivery_limit: z.int().min(1).max(1_000_000).default(20),
  /** The most messages in the queue: more are refused, and kept where they come from. 0 is no limit. */
  max_length: z.int().min(0).default(0),
  /** One consumer of the queue at a time gets messages: order per key over all replicas. */
  single_active_consumer: z.boolean().default(false),
  retry: retrySection.prefault({}),
});

export type RabbitmqConfig = z.output<typeof rabbitmqSection>;

/** Whether events go over a broker. */
export function usesBroker(config: RabbitmqConfig): boolean {
  return config.enabled ?? config.url !== "";
}
