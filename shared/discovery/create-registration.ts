import type { Logger } from "#shared/logging";
import type { DiscoveryConfig } from "./config.ts";
import type { RegistrationConfig } from "./registering/config.ts";
import { createConsulListing } from "./registering/consul-listing.ts";
import { createEtcdListing } from "./registering/etcd-listing.ts";
import { keepRegistered } from "./registering/keep-registered.ts";
import type { Listing, Registration } from "./registering/registration.ts";

export interface RegistrationOptions {
  readonly discovery: DiscoveryConfig;
  readonly logger: Pick<Logger, "debug" | "info" | "warn">;
  /** For jitter, in [0, 1). Default `Math.random`. */
  readonly random?: () => number;
}

/**
 * What lists this instance in etcd or Consul: start it when the server listens, stop it before the server does, so that no
 * new calls come. It survives its registry: the instance is listed again when the registry is back, with or without data.
 */
export function createRegistration(config: RegistrationConfig, options: RegistrationOptions): Registration {
  const { discovery, logger, random = Math.random } = options;
  return keepRegistered({
    listing: listingOf(config, discovery),
    name: config.address.text,
    advertise: config.advertise,
    ttlMs: config.ttlMs,
    logger,
    random,
  });
}

function listingOf(config: RegistrationConfig, discovery: DiscoveryConfig): Listing {
  const { address } = config;
  return address.scheme === "etcd"
    ? createEtcdListing(address, config, discovery.etcd)
    : createConsulListing(address, config, discovery.consul);
}
