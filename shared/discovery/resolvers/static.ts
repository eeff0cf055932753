import { endpointAt } from "../addresses/endpoint.ts";
import type { StaticTarget } from "../addresses/target.ts";
import type { Resolver } from "../resolving/resolver.ts";

/** Tells the addresses at once, and nothing more. Names among them are looked up by each connection. */
export function createStaticResolver({ addresses }: StaticTarget): Resolver {
  return {
    start: (listener) => listener.onEndpoints(addresses.map((address) => endpointAt(address))),
    refresh() {},
    stop() {},
  };
}
