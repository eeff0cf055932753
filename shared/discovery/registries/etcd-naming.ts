import { z } from "zod";
import { type Endpoint, endpointAt } from "../addresses/endpoint.ts";
import { joinHostPort, parseHostPort } from "../addresses/host-port.ts";
import { toBase64 } from "./etcd-client.ts";

/**
 * Formats keys and values as etcd's own Go package does (`clientv3/naming/endpoints`), so that services of both find each other:
 * `book-service/10.0.0.7:9002` is `{"Op":0,"Addr":"10.0.0.7:9002","Metadata":{"weight":1}}`.
 */
export function keyOf(service: string, address: string): string {
  return `${service}/${address}`;
}

/** Returns the key range of a service. */
export function rangeOf(service: string): { readonly key: string; readonly range_end: string } {
  // "0" is the character after "/".
  return { key: toBase64(`${service}/`), range_end: toBase64(`${service}0`) };
}

export function namingValue({ address, weight }: Pick<Endpoint, "address" | "weight">): string {
  return JSON.stringify({ Op: 0, Addr: address, Metadata: { weight } });
}

const DELETED = 1;

const namingUpdate = z.object({
  Op: z.number().optional(),
  Addr: z.string(),
  // A Go service may have put any value there.
  Metadata: z.unknown().optional(),
});
const weighted = z.object({ weight: z.number().positive() });

/** Parses a value. Undefined when it is not in this format. */
export function endpointOf(value: string): Endpoint | undefined {
  let json: unknown;
  try {
    json = JSON.parse(value);
  } catch {
    return undefined;
  }
  const update = namingUpdate.safeParse(json);
  if (!update.success || update.data.Op === DELETED) return undefined;
  const address = parseHostPort(update.data.Addr);
  if ("fault" in address) return undefined;
  const metadata = weighted.safeParse(update.data.Metadata);
  return endpointAt(joinHostPort(address.host, address.port), metadata.success ? metadata.data.weight : 1);
}
