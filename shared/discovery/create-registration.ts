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
  /** Returns numbers in [0, 1) for jitter. Default `Math.random`. */
  readonly random?: () => number;
}

/**
 * Creates the registration of this instance in etcd or Consul. Start it after the server listens and stop it before the
 * server stops, so that no new calls arrive. The instance is registered again when the registry comes back without data.
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
