import { endpointAt } from "../addresses/endpoint.ts";
import { joinHostPort } from "../addresses/host-port.ts";
import type { DnsTarget } from "../addresses/target.ts";
import { createNameService } from "../registries/name-service.ts";
import type { Source } from "../resolving/source.ts";

/** The addresses of a name, IPv4 and IPv6. */
export function createDnsSource({ server, host, port }: DnsTarget, refreshIntervalMs: number): Source {
  const names = createNameService(server);
  let known: readonly string[] = [];
  return {
    pauseMs: refreshIntervalMs,
    async follow(found, signal) {
      const { addresses, why } = await names.addresses(host, signal, known);
      known = addresses;
      found(
        addresses.map((address) => endpointAt(joinHostPort(address, port))),
        why,
      );
    },
  };
}
