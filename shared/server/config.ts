import { existsSync } from "node:fs";
import { z } from "zod";
import { duration, section } from "#shared/config";

const file = z.string().refine(existsSync, "there is no such file");

/** Paths are relative to the working directory. */
const tlsSection = section({
  /** The certificate chain, PEM. */
  cert_file: file,
  /** Its private key, PEM. */
  key_file: file,
  /** Who signs the certificates that clients must present (mTLS), PEM. Default: clients need none. */
  client_ca_file: file.optional(),
  /** How often to look whether one of the files has changed; new connections then have the new ones. 0: never. */
  reload_interval: duration("5s"),
});

/** `server:` of a service's YAML. */
export const serverSection = section({
  /** The service's name: in logs, as the domain of error reasons, and as the caller that peers see. */
  name: z.string().min(1),
  /** The address to listen on. */
  host: z.string().min(1).default("0.0.0.0"),
  /** 0 takes any free port. */
  port: z.int().min(0).max(65_535),
  /** Serves TLS (HTTP/2 and HTTP/1.1 by ALPN) instead of cleartext. */
  tls: tlsSection.optional(),

  /**
   * A unary call has at most this long: a longer or missing deadline of the caller's is cut to it. 0: as long as the caller
   * wants.
   */
  max_timeout: duration("30s"),
  /** The same for calls that stream. 0: as long as the caller wants. */
  max_stream_timeout: duration("0"),
  /** The largest request message, in bytes. */
  read_max_bytes: z
    .int()
    .min(1)
    .max(0xffff_ffff)
    .default(4 * 1024 * 1024),
  /** The largest response message, in bytes. */
  write_max_bytes: z
    .int()
    .min(1)
    .max(0xffff_ffff)
    .default(64 * 1024 * 1024),
  /**
   * Answers whose caller accepts it are compressed from so many bytes on, each of a stream's messages by itself. Connect's
   * 1,024 saves bytes; where services are near each other and CPU time costs more than bytes, more is better.
   */
  compress_min_bytes: z.int().min(0).max(0xffff_ffff).default(1024),
  /** The largest block of request headers, in bytes. */
  max_header_bytes: z
    .int()
    .min(1024)
    .max(1024 * 1024)
    .default(16 * 1024),
  /**
   * Serves calls by a core of our own, for about a third of the CPU time. False: every call by Connect's own plugin for
   * Fastify.
   */
  fast_path: z.boolean().default(true),
  /** Connections beyond this many are refused. */
  max_connections: z.int().min(1).default(10_000),
  /** Calls at once on one HTTP/2 connection; what is beyond waits in the client. */
  max_concurrent_streams: z.int().min(1).max(0x7fff_ffff).default(1_000),
  /**
   * An HTTP/2 connection on which more calls a second are reset than this is closed (CVE-2023-44487, rapid reset); ten
   * times as many are let pass at once. Each deadline and cancellation of a client is a reset, and one connection may
   * carry the calls of many: lower it where the public connects.
   */
  max_resets_per_second: z.int().min(1).max(1_000_000).default(10_000),
  /**
   * Calls in their handlers at once, unary and streaming, those of health and reflection apart. What is beyond is refused
   * at once with UNAVAILABLE, OVERLOADED. Default: no limit, since what a service can take is its own.
   */
  max_concurrent_calls: z.int().min(1).optional(),
  /**
   * While the event loop runs later than this, calls are refused in the same way. 0, the default: never. How late is too
   * late depends on what a service computes, and on a machine that is short of CPU all services would refuse at once. A
   * fraction of the shortest deadline that callers set is a good limit: what has waited that long is often given up.
   */
  max_event_loop_delay: duration("0"),
  /** When those that were refused may ask again, give or take a fifth: `grpc-retry-pushback-ms` (gRFC A6). */
  shed_pushback: duration("100ms"),
  /**
   * Age at which a connection is closed gracefully by GOAWAY, with a jitter of 10 % (gRFC A9), so that clients behind a
   * layer 4 balancer spread over new servers. 0: never.
   */
  max_connection_age: duration("5m"),
  /** How long the calls of such a connection may then go on before it is closed. 0: as long as they take. */
  max_connection_age_grace: duration("0"),
  /**
   * How much of a request's body, and of all bodies on one HTTP/2 connection, may be on its way before it is read (flow
   * control). A connection whose handlers do not read holds at most `stream_window_bytes` for each of its
   * `max_concurrent_streams` calls.
   */
  stream_window_bytes: z
    .int()
    .min(65_535)
    .max(0x7fff_ffff)
    .default(1024 * 1024),
  connection_window_bytes: z
    .int()
    .min(65_535)
    .max(0x7fff_ffff)
    .default(4 * 1024 * 1024),
  /**
   * How much of its whole responses a client may leave unread on one HTTP/2 connection. What is beyond fails with
   * RESOURCE_EXHAUSTED. One response is always sent, and a stream's messages wait in the handler.
   */
  max_unsent_bytes: z
    .int()
    .min(1)
    .max(Number.MAX_SAFE_INTEGER)
    .default(64 * 1024 * 1024),
  /** A connection that has not sent its first bytes (or its HTTP/1.1 headers) by then is closed. */
  first_byte_timeout: duration("10s", { min: "1ms" }),

  /** At shutdown: how long to go on serving, not ready, while load balancers take notice. */
  drain_delay: duration("0"),
  /** At shutdown: how long calls in flight may take before they are ended with UNAVAILABLE. */
  shutdown_timeout: duration("10s"),
});

export type ServerConfig = z.output<typeof serverSection>;
