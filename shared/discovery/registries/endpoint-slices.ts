import { z } from "zod";
import { type Endpoint, endpointAt } from "../addresses/endpoint.ts";
import { isPort, joinHostPort } from "../addresses/host-port.ts";

/** What is read of an EndpointSlice. Lists that are empty come as null. */
export const slice = z.object({
  metadata: z.object({ name: z.string() }),
  ports: z
    .array(z.object({ name: z.string().nullish(), port: z.number().nullish(), protocol: z.string().nullish() }))
    .nullish(),
  endpoints: z
    .array(
      z.object({
        addresses: z.array(z.string()).nullish(),
        conditions: z.object({ ready: z.boolean().nullish() }).nullish(),
      }),
    )
    .nullish(),
});

export type Slice = z.output<typeof slice>;

/**
 * The ready endpoints of a service's slices together. A condition that is not there counts as ready, and the addresses of
 * one endpoint are all the same, of which the first is to be used: as the API says.
 *
 * @param port the name of the service's port, or the number that the pods listen on
 */
export function endpointsOf(slices: readonly Slice[], port: string | number): Endpoint[] {
  return slices.flatMap(({ ports, endpoints }) => {
    const number = typeof port === "number" ? port : ports?.find(({ name }) => name === port)?.port;
    if (number === undefined || number === null || !isPort(number)) return [];
    return (endpoints ?? []).flatMap(({ addresses, conditions }) => {
      const [address] = addresses ?? [];
      return address === undefined || conditions?.ready === false ? [] : [endpointAt(joinHostPort(address, number))];
    });
  });
}
