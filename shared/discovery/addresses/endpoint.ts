/** One address of a service. */
export interface Endpoint {
  /** `host:port`, IPv6 in brackets. */
  readonly address: string;
  /** Its share of the calls, compared with the others': above 0, 1 when the registry knows no weights. */
  readonly weight: number;
  /** Those with the lowest are tried first, as SRV records have it (RFC 2782). 0 when the registry knows none. */
  readonly priority: number;
}

export function endpointAt(address: string, weight = 1, priority = 0): Endpoint {
  return { address, weight, priority };
}

/** Each address once, with its lowest priority. */
export function distinct(endpoints: readonly Endpoint[]): readonly Endpoint[] {
  const byAddress = new Map<string, Endpoint>();
  for (const endpoint of endpoints) {
    const other = byAddress.get(endpoint.address);
    if (other === undefined || endpoint.priority < other.priority) byAddress.set(endpoint.address, endpoint);
  }
  return [...byAddress.values()];
}

/** Whether two sets are the same, in whatever order. Both are distinct. */
export function sameEndpoints(some: readonly Endpoint[], others: readonly Endpoint[]): boolean {
  if (some.length !== others.length) return false;
  const byAddress = new Map(some.map((endpoint) => [endpoint.address, endpoint]));
  return others.every(({ address, weight, priority }) => {
    const endpoint = byAddress.get(address);
    return endpoint?.weight === weight && endpoint.priority === priority;
  });
}
