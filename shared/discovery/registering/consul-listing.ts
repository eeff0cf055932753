import { parseHostPort } from "../addresses/host-port.ts";
import type { ConsulTarget } from "../addresses/target.ts";
import type { ConsulConfig } from "../config.ts";
import { createConsulClient } from "../registries/consul-client.ts";
import { RegistryError } from "../registries/registry-error.ts";
import type { RegistrationConfig } from "./config.ts";
import type { Listing } from "./registration.ts";

/** Consul accepts none that is shorter. */
const SHORTEST_DEREGISTER_MS = 60_000;
const NOT_FOUND = 404;

/**
 * A service of the agent with a TTL check. An instance that is gone without a word is no longer listed as healthy after its
 * ttl, and is forgotten after a minute or three ttls, whichever is longer. Tested against an agent that speaks as
 * https://developer.hashicorp.com/consul/api-docs/agent/service says, not against a real Consul.
 */
export function createConsulListing(
  { service }: ConsulTarget,
  { advertise, weight, ttlMs, tags }: RegistrationConfig,
  config: ConsulConfig,
): Listing {
  const client = createConsulClient(config);
  const address = parseHostPort(advertise);
  if ("fault" in address) throw new TypeError(`advertise: ${address.fault}`);
  const id = `${service}-${address.host.replaceAll(":", "-")}-${address.port}`;
  const checkId = `service:${id}`;
  const registration = {
    ID: id,
    Name: service,
    Tags: tags,
    Address: address.host,
    Port: address.port,
    Weights: { Passing: weight, Warning: 1 },
    Check: {
      CheckID: checkId,
      Name: `ttl of ${id}`,
      TTL: `${ttlMs / 1_000}s`,
      Status: "passing",
      DeregisterCriticalServiceAfter: `${Math.max(SHORTEST_DEREGISTER_MS, ttlMs * 3) / 1_000}s`,
    },
  };

  return {
    async register(signal) {
      const path = "/v1/agent/service/register?replace-existing-checks=true";
      await client.call("PUT", path, { body: registration, signal });
    },
    async renew(signal) {
      try {
        await client.call("PUT", `/v1/agent/check/pass/${encodeURIComponent(checkId)}`, { signal });
        return true;
      } catch (error) {
        // An agent that does not know the check says 404, or 500 before Consul 1.11.
        if (error instanceof RegistryError && error.status !== undefined) return false;
        throw error;
      }
    },
    async withdraw(signal) {
      try {
        await client.call("PUT", `/v1/agent/service/deregister/${encodeURIComponent(id)}`, { signal });
      } catch (error) {
        if (!(error instanceof RegistryError) || error.status !== NOT_FOUND) throw error;
      }
    },
  };
}
