import type { Endpoint as ResolvedEndpoint } from "#shared/discovery";
import type { Endpoint, OwnedEndpoint } from "./endpoint.ts";
import type { OutlierEjection } from "./health/outlier-ejection.ts";

/** The peers of one service, as its resolver has told them. */
export interface EndpointSet {
  /** Those that are gone take no new calls, and end when their last call has. */
  update(resolved: readonly ResolvedEndpoint[]): void;
  all(): readonly Endpoint[];
  /**
   * Those that a call can go to: connected, healthy, responsive and not ejected, of the lowest priority that has such.
   * When none is, those that are at least connected. The same object until `changed`.
   */
  candidates(): readonly Endpoint[];
  /** One of them has changed. */
  changed(): void;
  /** To all of them, and to those that are gone. */
  openCalls(): number;
  /** See `Subchannel.close`. */
  close(timeoutMs: number): Promise<void>;
}

export interface EndpointSetOptions {
  readonly make: (resolved: ResolvedEndpoint) => OwnedEndpoint;
  readonly outliers: Pick<OutlierEjection, "isEjected"> | undefined;
}

/** As long as a timer can wait: calls of a peer that is no longer listed end when they end. */
const LONGEST_MS = 2 ** 31 - 1;

export function createEndpointSet({ make, outliers }: EndpointSetOptions): EndpointSet {
  let endpoints = new Map<string, OwnedEndpoint>();
  const leaving = new Set<OwnedEndpoint>();
  let candidates: readonly Endpoint[] | undefined;

  function leave(endpoint: OwnedEndpoint): void {
    leaving.add(endpoint);
    void endpoint.subchannel.close(LONGEST_MS).then(() => leaving.delete(endpoint));
  }

  function choose(): readonly Endpoint[] {
    const connected = [...endpoints.values()].filter(isServing);
    const responsive = connected.filter(({ subchannel }) => subchannel.isResponsive());
    const good = responsive.filter(({ address }) => !outliers?.isEjected(address));
    const best = [good, responsive, connected].find(({ length }) => length > 0) ?? [];
    const first = best.reduce((lowest, { priority }) => Math.min(lowest, priority), Number.POSITIVE_INFINITY);
    return best.filter(({ priority }) => priority === first);
  }

  return {
    update(resolved) {
      const before = endpoints;
      endpoints = new Map();
      for (const one of resolved) {
        const endpoint = before.get(one.address) ?? make(one);
        endpoint.weight = one.weight;
        endpoint.priority = one.priority;
        endpoints.set(one.address, endpoint);
      }
      candidates = undefined;
      for (const [address, endpoint] of before) if (!endpoints.has(address)) leave(endpoint);
    },
    all: () => [...endpoints.values()],
    candidates() {
      candidates ??= choose();
      return candidates;
    },
    changed() {
      candidates = undefined;
    },
    openCalls: () => [...endpoints.values(), ...leaving].reduce((sum, { inFlight }) => sum + inFlight, 0),
    async close(timeoutMs) {
      const all = [...endpoints.values(), ...leaving];
      await Promise.all(all.map(({ subchannel }) => subchannel.close(timeoutMs)));
    },
  };
}

function isServing({ subchannel, health }: Endpoint): boolean {
  return subchannel.state() === "ready" && (health === "unwatched" || health === "serving");
}
