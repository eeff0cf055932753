import { z } from "zod";
import { section } from "#shared/config";

/** `rabbitmq` of a service's YAML, with the original design's keys. */
export const rabbitmqSection = section({
  /** false keeps events inside the process. */
  enabled: z.boolean().default(true),
  /** Such as `amqp://guest:guest@localhost:5672/`. */
  url: z.string().regex(/^amqps?:\/\//, 'expected "amqp://user:password@host:port/vhost"'),
  exchange: z.string().min(1).max(255),
  exchange_type: z.enum(["direct", "fanout", "topic", "headers"]).default("topic"),
  queue: z.string().min(1).max(255),
  /** What the queue is bound by, such as `user.#`. */
  routing_key: z.string().max(255),
  durable: z.boolean().default(true),
  auto_delete: z.boolean().default(false),
});
