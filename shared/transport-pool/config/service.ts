import { z } from "zod";
import { duration, section } from "#shared/config";
import { targetSchema } from "#shared/discovery";
import { balancerSection } from "./balancer.ts";
import { breakerSection } from "./breaker.ts";
import { hedgeSection } from "./hedge.ts";
import { methodsSchema, RETRY_OR_HEDGE } from "./methods.ts";
import { outlierSection } from "./outlier.ts";
import { retrySection } from "./retry.ts";
import { tlsSection } from "./tls.ts";

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

/** How a connection that is dead is found out (gRFC A8). */
const keepaliveSection = section({
  /**
   * A peer that has sent nothing for so long, while calls are open, is asked for a sign of life. gRPC's floor is 10 s;
   * doubled when the peer says `too_many_pings`. Off by default: gRPC's servers end a connection on which pings come more
   * often than every 5 minutes without data. 0: never.
   */
  time: duration("0s").refine((ms) => ms === 0 || ms >= 10_000, "must be 0 or at least 10s (gRFC A8)"),
  /** A peer that does not answer within this is gone. */
  timeout: duration("20s", { min: "1ms" }),
  /** Whether to ask without open calls too: for links that forget idle connections. Many servers do not like it. */
  without_calls: z.boolean().default(false),
});

const healthCheckSection = section({
  /** The name that the peer is asked about (grpc.health.v1); "" is the whole server. */
  service: z.string().default(""),
});

/** RFC 9113, 6.9.2: from the initial window to the largest one. */
const windowSchema = z
  .int()
  .min(65_535)
  .max(2 ** 31 - 1);

const serviceSection = section(
  {
    /** What the code asks the pool for. */
    name: z.string().min(1),
    /** Where its instances are: `host:port`, a list of those, or a resolver's address such as `dns:///book:9002`. */
    address: targetSchema,
    protocol: z.enum(["grpc", "connect", "grpc-web"]).default("grpc"),
    /** How messages are encoded. */
    codec: z.enum(["binary", "json"]).default("binary"),
    /** What requests are compressed with. Responses may always be compressed. */
    compression: z.enum(["none", "gzip", "br"]).default("none"),
    /** Smaller messages are sent as they are. */
    compress_min_bytes: z.int().min(0).default(1024),
    /** Sends calls of methods without side effects by GET, which proxies can cache; only with `protocol: connect`. */
    use_get: z.boolean().default(false),
    /** `false`: all calls are sent by Connect's own transport, at several times the CPU time. */
    fast_path: z.boolean().default(true),
    /** The version of HTTP, quoted or not; 1.1 not with `protocol: grpc`. */
    http: z
      .preprocess((value) => (typeof value === "number" ? String(value) : value), z.enum(["2", "1.1"]))
      .default("2"),
    /** For `https://` addresses, and for all when it is there. */
    tls: tlsSection.optional(),
    /**
     * For unary calls that do not bring their own timeout, over all of their attempts. Streams have none but what they
     * bring or inherit.
     */
    timeout: duration("5s", { min: "1ms" }),
    /** Calls wait for a connection, up to their deadline, instead of failing at once while the service is down. */
    wait_for_ready: z.boolean().default(false),
    /** The largest message that is read from an answer; more fails with RESOURCE_EXHAUSTED. gRPC's default. */
    read_max_bytes: z
      .int()
      .min(1)
      .max(2 ** 32 - 1)
      .default(4 * 1024 * 1024),
    retry: retrySection.optional(),
    hedge: hedgeSection.optional(),
    breaker: breakerSection.prefault({}),
    balancer: balancerSection.prefault({}),
    outlier_ejection: outlierSection.prefault({}),
    /** Follows the health of each instance (gRFC A17); only with `protocol: grpc`. Off when it is missing. */
    health_check: healthCheckSection.optional(),
    /** From the first SYN to the peer's HTTP/2 SETTINGS. gRPC's MIN_CONNECT_TIMEOUT. */
    connect_timeout: duration("20s", { min: "1ms" }),
    connect_backoff: connectBackoffSection.prefault({}),
    keepalive: keepaliveSection.prefault({}),
    /** A connection that has had no calls for so long is closed. gRPC's IDLE_TIMEOUT. */
    idle_timeout: duration("30m", { min: "1ms" }),
    /**
     * To one instance. Over HTTP/2 more than one only while the others are at its MAX_CONCURRENT_STREAMS (gRFC A105),
     * default 8. Over HTTP/1.1 each carries one call at a time, and further calls wait; default 256.
     */
    max_connections: z.int().min(1).optional(),
    /** How many bytes the peer may send ahead of the reader: of one stream, and of all streams of a connection. */
    stream_window_bytes: windowSchema.default(1024 * 1024),
    connection_window_bytes: windowSchema.default(4 * 1024 * 1024),
    /** What holds for single methods, instead of the above. */
    methods: methodsSchema.default({}),
  },
  (service, fault) => {
    if (service.retry !== undefined && service.hedge !== undefined) fault("hedge", RETRY_OR_HEDGE);
    if (service.http === "1.1" && service.protocol === "grpc") {
      fault("http", 'grpc needs HTTP/2; "1.1" goes with protocol: connect or grpc-web');
    }
    if (service.use_get && service.protocol !== "connect") fault("use_get", "needs protocol: connect");
    if (service.health_check !== undefined && service.protocol !== "grpc")
      fault("health_check", "needs protocol: grpc");
  },
);

/**
 * `grpc_clients` of a service's YAML: the services that it calls. The original design's keys load as they are; each
 * key but `name` and `address` has a default.
 *
 * @example
 * grpc_clients:
 *   services:
 *     - name: book-service
 *       address: dns:///book:9002
 *       timeout: 5s
 *       retry: { max: 3, timeout: 10s, backoff: 100ms }
 */
export const grpcClientsSection = section({
  services: z
    .array(serviceSection)
    .superRefine(refuseSameNames, { when: () => true })
    .default([]),
}).prefault({});

function refuseSameNames(services: readonly { name?: unknown }[], context: z.core.$RefinementCtx): void {
  if (!Array.isArray(services)) return;
  const seen = new Set<unknown>();
  for (const [index, { name }] of services.entries()) {
    if (seen.has(name)) {
      const message = `there is a service named ${JSON.stringify(name)} already`;
      context.addIssue({ code: "custom", path: [index, "name"], message });
    }
    if (name !== undefined) seen.add(name);
  }
}

export type GrpcClientsConfig = z.output<typeof grpcClientsSection>;

/** One service of the configuration, every default filled in. */
export type ServiceConfig = GrpcClientsConfig["services"][number];
export type ConnectBackoffConfig = ServiceConfig["connectBackoff"];
export type MethodConfig = ServiceConfig["methods"][string];
