import { type Endpoint, endpointAt } from "../addresses/endpoint.ts";
import { joinHostPort } from "../addresses/host-port.ts";
import type { SrvTarget } from "../addresses/target.ts";
import { createNameService, type NameService } from "../registries/name-service.ts";
import type { Source } from "../resolving/source.ts";

/**
 * The hosts that SRV records name (RFC 2782), looked up by the same server. A host's weight is shared by its addresses, so
 * that one with both IPv4 and IPv6 counts once. Weight 0 counts as 1: the RFC gives such a host little, but not nothing.
 */
export function createSrvSource({ server, name }: SrvTarget, refreshIntervalMs: number): Source {
  const names = createNameService(server);
  /** By host, for when only some of them can be looked up. */
  let known = new Map<string, readonly string[]>();

  async function addressesOf(hosts: readonly string[], signal: AbortSignal): Promise<void> {
    const latest = new Map<string, readonly string[]>();
    let failure: unknown;
    for (const [host, answer] of await lookUpAll(names, hosts, signal, known)) {
      const addresses = answer instanceof Error ? known.get(host) : answer;
      if (answer instanceof Error) failure ??= answer;
      if (addresses !== undefined) latest.set(host, addresses);
    }
    if (latest.size === 0 && failure !== undefined) throw failure;
    known = latest;
  }

  return {
    pauseMs: refreshIntervalMs,
    async follow(found, signal) {
      const { records, why } = await names.srv(name, signal);
      // "." says that there is decidedly no such service.
      const offered = records.filter((record) => record.name !== "" && record.name !== ".");
      await addressesOf([...new Set(offered.map((record) => record.name))], signal);
      const endpoints = offered.flatMap(({ name: host, port, priority, weight }): Endpoint[] => {
        const addresses = known.get(host) ?? [];
        const share = Math.max(weight, 1) / addresses.length;
        return addresses.map((address) => endpointAt(joinHostPort(address, port), share, priority));
      });
      found(endpoints, why);
    },
  };
}

async function lookUpAll(
  names: NameService,
  hosts: readonly string[],
  signal: AbortSignal,
  known: ReadonlyMap<string, readonly string[]>,
) {
  const lookUp = async (host: string): Promise<readonly [string, readonly string[] | Error]> => {
    try {
      return [host, (await names.addresses(host, signal, known.get(host))).addresses];
    } catch (error) {
      signal.throwIfAborted();
      return [host, error instanceof Error ? error : new Error(String(error))];
    }
  };
  return Promise.all(hosts.map(lookUp));
}
