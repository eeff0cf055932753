import type { DescService } from "@bufbuild/protobuf";
import type { Client, Interceptor, Transport } from "@connectrpc/connect";
import { type DiscoveryConfig, discoverySection } from "#shared/discovery";
import type { Logger } from "#shared/logging";
import type { CallObserver } from "./call/call-record.ts";
import type { GrpcClientsConfig } from "./config/service.ts";
import { createStreamClient } from "./protocols/client.ts";
import type { JsonOptions } from "./protocols/fallback.ts";
import { createPooledService, type PooledService } from "./service/pooled-service.ts";
import type { ServiceState } from "./service/states.ts";

/** The way to every service that this one calls, with all policies of its configuration. */
export interface TransportPool {
  /**
   * A typed client of the service. Make it where the app is put together, so that a wrong name stops the start.
   *
   * Leaving the `for await` over a stream cancels the call. (With a client of Connect's own on `transport`, such a stream
   * goes on until its `signal` fires, its deadline passes or the incoming call that it works for ends.)
   *
   * @throws RangeError when no service of that name is configured; it lists those that are
   * @throws ConfigError when its configuration says something of methods that they do not allow
   */
  client<Service extends DescService>(name: string, service: Service): Client<Service>;
  /**
   * What `client` is made on, for code that works with any service. It stays the same over reloads.
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
  /**
   * From now on calls go by this configuration; those under way go on by the old one. Policies change in place; a
   * service whose address or connections are configured otherwise gets new ones, and the old ones end with their last
   * call. New services are added. One that is gone is kept until the process ends, since there may be clients of it.
   *
   * @throws ConfigError or RangeError as `client` and `createTransportPool` do; then nothing has changed
   */
  update(config: GrpcClientsConfig): void;
  /** How things stand, in the order of the configuration. */
  states(): ServiceState[];
  /**
   * Takes no more calls (UNAVAILABLE), lets open ones finish within `closeTimeoutMs`, ends the others with CANCELED,
   * and closes the connections. Never rejects.
   */
  close(): Promise<void>;
}

export interface TransportPoolOptions {
  readonly logger: Logger;
  /** This service's name: its peers get it as `x-caller`. */
  readonly caller: string;
  /** How resolvers find their registries. Default: those of this machine, as `discovery` of the YAML has them. */
  readonly discovery?: DiscoveryConfig;
  /** Run on each call after the pool's own, the first one outermost; once for a call, not for each of its attempts. */
  readonly interceptors?: readonly Interceptor[];
  /** For services with `codec: json`: a registry is needed for google.protobuf.Any. */
  readonly jsonOptions?: JsonOptions;
  /** Are told of each call when it begins and ends, besides the log. Default none. */
  readonly observers?: readonly CallObserver[];
  /** How long `close` waits for open calls. Default 5000. */
  readonly closeTimeoutMs?: number;
  /** For jitter and random picks. Default Math.random. */
  readonly random?: () => number;
}

/**
 * Makes the pool of a service. It opens nothing until `connect` or the first call, and never waits for a peer.
 *
 * @throws RangeError when the TLS files of a service cannot be used
 * @example
 * const pool = createTransportPool(config.grpcClients, { logger, caller: config.server.name });
 * const books = pool.client("book-service", BookService);
 */
export function createTransportPool(config: GrpcClientsConfig, options: TransportPoolOptions): TransportPool {
  const { closeTimeoutMs, ...serviceOptions } = resolveOptions(options);
  const { logger } = serviceOptions;
  const services = new Map<string, PooledService>();
  /** Those that are kept though no longer configured. */
  const gone = new Set<string>();
  let isConnected = false;
  let isClosed = false;
  for (const service of config.services) services.set(service.name, createPooledService(service, serviceOptions));

  function serviceNamed(name: string): PooledService {
    const service = services.get(name);
    if (service !== undefined) return service;
    const names = [...services.keys()].join(", ");
    throw new RangeError(
      `no service named ${JSON.stringify(name)} in grpc_clients.services; there ${names === "" ? "are none" : `is ${names}`}`,
    );
  }

  return {
    client(name, service) {
      const pooled = serviceNamed(name);
      pooled.check(service);
      return createStreamClient(service, pooled.transport);
    },
    transport: (name) => serviceNamed(name).transport,
    has: (name) => services.has(name),
    connect() {
      isConnected = true;
      for (const service of services.values()) service.connect();
    },
    update(next) {
      if (isClosed) return;
      const changes = next.services.map((service) => {
        const known = services.get(service.name);
        const change = known?.prepare(service);
        const pooled = known ?? createPooledService(service, serviceOptions);
        return () => {
          change?.();
          services.set(service.name, pooled);
          if (known === undefined && isConnected) pooled.connect();
        };
      });
      const before = [...services];
      // So that it has the new order.
      services.clear();
      for (const change of changes) change();
      for (const [name, service] of before) {
        if (services.has(name)) {
          gone.delete(name);
          continue;
        }
        services.set(name, service);
        if (gone.has(name)) continue;
        gone.add(name);
        logger.warn({ peer_service: name }, `${name} is gone from grpc_clients: kept until restart`);
      }
    },
    states: () => [...services.values()].map((service) => service.state()),
    async close() {
      isClosed = true;
      await Promise.all([...services.values()].map((service) => service.close(closeTimeoutMs)));
    },
  };
}

function resolveOptions(options: TransportPoolOptions) {
  const { interceptors = [], closeTimeoutMs = 5_000, random = Math.random } = options;
  const { discovery = discoverySection.parse({}) } = options;
  if (!(closeTimeoutMs >= 0)) throw new RangeError(`closeTimeoutMs must be 0 or more, not ${closeTimeoutMs}`);
  if (options.caller === "") throw new RangeError("caller must be this service's name");
  const { logger, caller, jsonOptions, observers = [] } = options;
  return { logger, caller, jsonOptions, observers, discovery, interceptors, closeTimeoutMs, random };
}
