import { hashText } from "./policies/hash.ts";

/**
 * Random subsetting (gRFC A68): the endpoints to connect to, when connections from everybody to everybody would be too
 * many. Each address draws a number by a hash, and the lowest `size` are taken: when one of them goes, one other
 * takes its place and the rest stay.
 *
 * @param seed a 32-bit integer that is random for each process, and stays: all would choose the same otherwise
 * @returns those of the endpoints, in their order; the same array when there are no more than `size`
 */
export function subsetOf<E extends { readonly address: string }>(
  endpoints: readonly E[],
  size: number,
  seed: number,
): readonly E[] {
  if (endpoints.length <= size) return endpoints;
  const drawn = endpoints.map((endpoint) => ({ endpoint, hash: hashText(endpoint.address, seed) >>> 0 }));
  drawn.sort((a, b) => a.hash - b.hash || (a.endpoint.address < b.endpoint.address ? -1 : 1));
  const taken = new Set(drawn.slice(0, size).map(({ endpoint }) => endpoint));
  return endpoints.filter((endpoint) => taken.has(endpoint));
}
