import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import type { Logger } from "#shared/logging";
import type { GrpcClientsConfig, ServiceConfig } from "./config.ts";
import { createConnectBackoff } from "./connect-backoff.ts";
import { createConnectionLog } from "./connection-log.ts";
import { describeError } from "./describe-error.ts";
import { openHttp2Connection } from "./http2-connection.ts";
import { createServiceTransport } from "./service-transport.ts";
import { createSubchannel, type Subchannel, type SubchannelState } from "./subchannel.ts";

/** The way to every service that this one calls: one HTTP/2 connection each, made when first needed. */
export interface TransportPool {
  /**
   * A typed client of the service. Make it where the app is put together, so that a wrong name stops the start.
   *
   * A stream that is not read to its end goes on until its `signal` fires, its deadline passes or the incoming call
   * that it works for ends: leaving a `for await` does not cancel it (as in Connect).
   *
   * @throws RangeError when no service of that name is configured; it lists those that are
   */
  client<Service extends DescService>(name: string, service: Service): Client<Service>;
  /**
   * What `client` is made on, for code that works with any service.
   *
   * @throws RangeError when no service of that name is configured; it lists those that are
   */
  transport(name: string): Transport;
  /** Whether a service of that name is configured: some dependencies are optional. */
  has(name: string): boolean;
  /**
   * Begins to connect to every service and returns at once. Those that are down are named in the log, and connected to
   * when they are back. Without it, each is connected to by its first call.
   */
  connect(): void;
  /** How things stand, in the order of the configuration. */
  states(): ServiceState[];
  /**
   * Takes no more calls (UNAVAILABLE), lets open ones finish within `closeTimeoutMs`, ends the others with CANCELED,
   * and closes the connections. Never rejects.
   */
  close(): Promise<void>;
}

export interface ServiceState {
  readonly name: string;
  /** `host:port` */
  readonly address: string;
  readonly protocol: ServiceConfig["protocol"];
  readonly state: SubchannelState;
  /** Calls that have not ended, those that wait for a connection among them. */
  readonly openCalls: number;
  /** Why the last attempt to connect failed or the last connection was lost; gone when there is a connection again. */
  readonly lastError?: string;
}

export interface TransportPoolOptions {
  readonly logger: Logger;
  /** This service's name: its peers get it as `x-caller`. */
  readonly caller: string;
  /** Run on each call after the pool's own, the first one outermost. */
  readonly interceptors?: readonly Interceptor[];
  /** How long `close` waits for open calls. Default 5000. */
  readonly closeTimeoutMs?: number;
  /** For the jitter of reconnects. Default Math.random. */
  readonly random?: () => number;
}

interface Entry {
  readonly config: ServiceConfig;
  readonly subchannel: Subchannel;
  readonly transport: Transport;
}

/**
 * Makes the pool of a service. It opens nothing until `connect` or the first call, and never waits for a peer.
 *
 * @example
 * const pool = createTransportPool(config.grpcClients, { logger, caller: config.server.name });
 * const books = pool.client("book-service", BookService);
 */
export function createTransportPool(config: GrpcClientsConfig, options: TransportPoolOptions): TransportPool {
  const { logger, caller, interceptors, closeTimeoutMs, random } = resolveOptions(options);
  const entries = new Map<string, Entry>();
  for (const service of config.services) {
    const { name, address, retry } = service;
    if (retry !== undefined && retry.max > 0) {
      logger.warn({ peer_service: name }, "retry is configured, and this version does not carry it out");
    }
    const subchannel = createSubchannel({
      name,
      address,
      connectTimeoutMs: service.connectTimeoutMs,
      backoff: createConnectBackoff(service.connectBackoff, random),
      open: openHttp2Connection,
      onChange: createConnectionLog({ logger, service: name, peer: address }),
    });
    const transport = createServiceTransport({ service, subchannel, logger, caller, interceptors });
    entries.set(name, { config: service, subchannel, transport });
  }

  function transport(name: string): Transport {
    const entry = entries.get(name);
    if (entry !== undefined) return entry.transport;
    const names = [...entries.keys()].join(", ");
    throw new RangeError(
      `no service named ${JSON.stringify(name)} in grpc_clients.services; there ${names === "" ? "are none" : `is ${names}`}`,
    );
  }

  return {
    client: (name, service) => createClient(service, transport(name)),
    transport,
    has: (name) => entries.has(name),
    connect() {
      for (const { subchannel } of entries.values()) subchannel.connect();
    },
    states: () => [...entries.values()].map(stateOf),
    async close() {
      await Promise.all([...entries.values()].map(({ subchannel }) => subchannel.close(closeTimeoutMs)));
    },
  };
}

function resolveOptions(options: TransportPoolOptions): Required<TransportPoolOptions> {
  const { interceptors = [], closeTimeoutMs = 5_000, random = Math.random } = options;
  if (!(closeTimeoutMs >= 0)) throw new RangeError(`closeTimeoutMs must be 0 or more, not ${closeTimeoutMs}`);
  if (options.caller === "") throw new RangeError("caller must be this service's name");
  return { ...options, interceptors, closeTimeoutMs, random };
}

function stateOf({ config, subchannel }: Entry): ServiceState {
  const { name, address, protocol } = config;
  const error = subchannel.lastError();
  return {
    name,
    address,
    protocol,
    state: subchannel.state(),
    openCalls: subchannel.openCalls(),
    ...(error === undefined ? {} : { lastError: describeError(error) }),
  };
}
