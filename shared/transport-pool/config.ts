import { z } from "zod";
import { duration, section } from "#shared/config";
import { addressSchema } from "./address.ts";

/**
 * Failed calls may be sent again. Checked and carried here; nothing carries it out yet.
 */
const retrySection = section({
  /** Attempts after the first; 0 turns retries off. */
  max: z.int().min(0),
  /** For all attempts together, on top of the call's own deadline. */
  timeout: duration("10s", { min: "1ms" }),
  /** Before the second attempt; it grows from there. */
  backoff: duration("100ms", { min: "1ms" }),
});

/**
 * How long to leave a peer alone that could not be reached. Defaults and meaning are gRPC's:
 * https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md
 */
const connectBackoffSection = section({
  initial: duration("1s", { min: "1ms" }),
  multiplier: z.number().min(1).default(1.6),
  /** Each delay is drawn from ± this share of it. */
  jitter: z.number().min(0).max(1).default(0.2),
  max: duration("120s", { min: "1ms" }),
});

const serviceSection = section({
  /** What the code asks the pool for. */
  name: z.string().min(1),
  /** `host:port`, with or without `http://`; IPv6 in brackets. */
  address: addressSchema,
  protocol: z.enum(["grpc", "connect", "grpc-web"]).default("grpc"),
  /** For unary calls that do not bring their own timeout. Streams have none but what they bring or inherit. */
  timeout: duration("5s", { min: "1ms" }),
  /** The largest message that is read from an answer; more fails with RESOURCE_EXHAUSTED. gRPC's default. */
  read_max_bytes: z
    .int()
    .min(1)
    .max(2 ** 32 - 1)
    .default(4 * 1024 * 1024),
  retry: retrySection.optional(),
  /** From the first SYN to the peer's HTTP/2 SETTINGS. gRPC's MIN_CONNECT_TIMEOUT. */
  connect_timeout: duration("20s", { min: "1ms" }),
  connect_backoff: connectBackoffSection.prefault({}),
});

/**
 * `grpc_clients` of a service's YAML: the services that it calls. The original design's keys load as they are; each
 * key but `name` and `address` has a default.
 *
 * @example
 * grpc_clients:
 *   services:
 *     - name: book-service
 *       address: localhost:9002
 *       timeout: 5s
 */
export const grpcClientsSection = section({
  services: z
    .array(serviceSection)
    .superRefine((services, context) => {
      const seen = new Set<string>();
      for (const [index, { name }] of services.entries()) {
        if (seen.has(name)) {
          context.addIssue({
            code: "custom",
            path: [index, "name"],
            message: `there is a service named ${JSON.stringify(name)} already`,
          });
        }
        seen.add(name);
      }
    })
    .default([]),
}).prefault({});

export type GrpcClientsConfig = z.output<typeof grpcClientsSection>;

/** One service of the configuration, every default filled in. */
export type ServiceConfig = GrpcClientsConfig["services"][number];
export type ConnectBackoffConfig = ServiceConfig["connectBackoff"];
