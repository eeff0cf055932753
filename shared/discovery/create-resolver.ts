import type { Logger } from "#shared/logging";
import type { Target } from "./addresses/target.ts";
import type { DiscoveryConfig } from "./config.ts";
import { createConsulSource } from "./resolvers/consul.ts";
import { createDnsSource } from "./resolvers/dns.ts";
import { createEtcdSource } from "./resolvers/etcd.ts";
import { createK8sSource } from "./resolvers/k8s.ts";
import { createSrvSource } from "./resolvers/srv.ts";
import { createStaticResolver } from "./resolvers/static.ts";
import { createFollowingResolver } from "./resolving/following-resolver.ts";
import type { Resolver } from "./resolving/resolver.ts";
import type { Source } from "./resolving/source.ts";

export interface ResolverOptions {
  readonly discovery: DiscoveryConfig;
  readonly logger: Pick<Logger, "debug" | "info" | "warn">;
  /** For jitter, in [0, 1). Default `Math.random`. */
  readonly random?: () => number;
}

/**
 * What follows the endpoints of a service, by the scheme of its address. It survives its registry: the last endpoints stay,
 * and the registry is tried again after 0.5 s, then ever more slowly up to 30 s (± half).
 */
export function createResolver(target: Target, options: ResolverOptions): Resolver {
  if (target.scheme === "static") return createStaticResolver(target);
  const { discovery, logger, random = Math.random } = options;
  return createFollowingResolver({
    name: target.text,
    source: sourceOf(target, options),
    emptyGraceMs: discovery.emptyGraceMs,
    minRefreshMs: discovery.minRefreshMs,
    logger,
    random,
    now: () => performance.now(),
  });
}

function sourceOf(target: Exclude<Target, { scheme: "static" }>, { discovery, logger }: ResolverOptions): Source {
  switch (target.scheme) {
    case "dns":
      return createDnsSource(target, discovery.dns.refreshIntervalMs);
    case "srv":
      return createSrvSource(target, discovery.dns.refreshIntervalMs);
    case "etcd":
      return createEtcdSource(target, discovery.etcd, logger);
    case "consul":
      return createConsulSource(target, discovery.consul);
    case "k8s":
      return createK8sSource(target, discovery.k8s);
  }
}
