import { createResolver, type DiscoveryConfig, type Endpoint as ResolvedEndpoint } from "#shared/discovery";
import type { Logger } from "#shared/logging";
import { type Channel, createChannel } from "../balancing/channel.ts";
import { connectToAll, connectToFirst } from "../balancing/connecting.ts";
import { createEndpoint, type Health, type OwnedEndpoint } from "../balancing/endpoint.ts";
import { createEndpointSet } from "../balancing/endpoint-set.ts";
import { createHealthWatch, type HealthWatch } from "../balancing/health/health-watch.ts";
import { createOutlierSweep, type OutlierSweep } from "../balancing/health/outlier-sweep.ts";
import { createRecovery } from "../balancing/health/recovery.ts";
import { createBalancer } from "../balancing/policies/create-balancer.ts";
import { subsetOf } from "../balancing/subset.ts";
import type { ServiceConfig } from "../config/service.ts";
import { createConnectBackoff } from "../connections/connect-backoff.ts";
import { createConnectionLog } from "../connections/connection-log.ts";
import { createHttp1Subchannel } from "../connections/http1/http1-subchannel.ts";
import { createHttp2Subchannel } from "../connections/http2/http2-subchannel.ts";
import { openHttp2Connection } from "../connections/http2/open-http2-connection.ts";
import type { SubchannelState } from "../connections/subchannel.ts";
import { type ClientTls, createClientTls } from "../connections/tls.ts";
import { transportTo } from "../protocols/transport.ts";

export interface ServiceChannelOptions {
  readonly config: ServiceConfig;
  readonly logger: Logger;
  readonly discovery: DiscoveryConfig;
  readonly random: () => number;
}

export interface ServiceChannel extends Channel {
  readonly outliers: OutlierSweep | undefined;
}

const MAX_SEED = 2 ** 32;
/** To one instance, when `max_connections` does not say otherwise. */
const MAX_CONNECTIONS = { "2": 8, "1.1": 256 } as const;

/** Puts the channel of one service together: resolver → endpoints, each with its subchannel → balancer. */
export function createServiceChannel({ config, logger, discovery, random }: ServiceChannelOptions): ServiceChannel {
  const { name, address: target, balancer, outlierEjection, connectBackoff } = config;
  const { subset } = balancer;
  const seed = Math.floor(random() * MAX_SEED);
  const outliers = outlierEjection.enabled
    ? createOutlierSweep({ config: outlierEjection, random, logger, service: name, onChange: () => channel.changed() })
    : undefined;
  const tls = config.tls !== undefined || target.tls ? openTls(config, logger) : undefined;

  function makeEndpoint({ address, weight, priority }: ResolvedEndpoint): OwnedEndpoint {
    const logConnection = createConnectionLog({ logger, service: name, peer: address });
    const hasRecovered = createRecovery();
    let health: HealthWatch | undefined;
    let hasRefused = false;

    function onChange(state: SubchannelState, cause?: Error): void {
      logConnection(state, cause);
      if (state === "ready") health?.start();
      else health?.stop();
      if (hasRecovered(state, subchannel.isResponsive(), performance.now())) endpoint.forget();
      if (state === "transient_failure" || state === "idle") channel.refresh();
      channel.changed();
    }

    const common = {
      name,
      address,
      backoff: createConnectBackoff(connectBackoff, random),
      idleTimeoutMs: config.idleTimeoutMs,
      onChange,
    };
    const connection = {
      authority: target.authority ?? address,
      tls,
      connectTimeoutMs: config.connectTimeoutMs,
      keepalive: config.keepalive,
      streamWindowBytes: config.streamWindowBytes,
      connectionWindowBytes: config.connectionWindowBytes,
    };
    const maxConnections = config.maxConnections ?? MAX_CONNECTIONS[config.http];
    const subchannel =
      config.http === "1.1"
        ? createHttp1Subchannel({ ...common, ...connection, maxConnections })
        : createHttp2Subchannel({ ...common, connection, maxConnections, open: openHttp2Connection });
    const { healthCheck } = config;
    const endpoint = createEndpoint({
      address,
      weight,
      priority,
      health: healthCheck === undefined ? "unwatched" : "unknown",
      subchannel,
    });
    if (healthCheck !== undefined) {
      health = createHealthWatch({
        transport: transportTo(endpoint, config),
        service: healthCheck.service,
        backoff: createConnectBackoff(connectBackoff, random),
        onHealth(next: Health, cause) {
          if (endpoint.health === next) return;
          const about = { peer_service: name, peer: address, ...(cause === undefined ? {} : { error: cause.message }) };
          if (next === "not_serving") logger.warn(about, `${name} at ${address} does not serve`);
          else if (next === "serving" && hasRefused) logger.info(about, `${name} at ${address} serves again`);
          else logger.debug(about, `${name} at ${address} is ${next}`);
          if (next !== "unknown") hasRefused = next === "not_serving";
          endpoint.health = next;
          channel.changed();
        },
      });
    }
    return endpoint;
  }

  function lookAgain(): void {
    channel.changed();
    channel.connect();
  }

  const endpoints = createEndpointSet({ make: makeEndpoint, outliers });
  const channel = createChannel({
    name,
    target: target.text,
    resolver: createResolver(target, { discovery, logger, random }),
    endpoints,
    balancer: createBalancer(balancer, random),
    connecting: balancer.policy === "pick_first" ? connectToFirst(lookAgain) : connectToAll,
    subset: (resolved) => (subset === undefined ? resolved : subsetOfEach(resolved, subset, seed)),
    onEndpoints: (all) => outliers?.watch(all.map(({ address }) => address)),
  });
  return {
    ...channel,
    outliers,
    async close(timeoutMs, reason) {
      outliers?.stop();
      await channel.close(timeoutMs, reason);
    },
  };
}

/** So many of each priority: those that stand in for others must not crowd them out. */
function subsetOfEach(resolved: readonly ResolvedEndpoint[], size: number, seed: number): readonly ResolvedEndpoint[] {
  const groups = Map.groupBy(resolved, ({ priority }) => priority);
  return [...groups.values()].flatMap((group) => subsetOf(group, size, seed));
}

function openTls({ name, tls }: ServiceConfig, logger: Logger): ClientTls {
  try {
    return createClientTls(tls ?? {}, (err) => {
      logger.error({ err, peer_service: name }, "changed TLS files cannot be used; going on with the old ones");
    });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RangeError(`grpc_clients.services (${name}).tls: ${reason}`, { cause });
  }
}
