import { z } from "zod";
import { sleep } from "#shared/timing";
import { type Endpoint, endpointAt } from "../addresses/endpoint.ts";
import { isPort, joinHostPort } from "../addresses/host-port.ts";
import type { ConsulTarget } from "../addresses/target.ts";
import type { ConsulConfig } from "../config.ts";
import { createConsulClient } from "../registries/consul-client.ts";
import { readAnswer } from "../registries/registry-error.ts";
import type { Source } from "../resolving/source.ts";

/** How long the agent holds a question that has no new answer; it adds up to a sixteenth by itself. */
const WAIT_S = 60;
const ANSWER_MS = (WAIT_S + WAIT_S / 16 + 5) * 1_000;
const FIRST_ANSWER_MS = 5_000;
/** Between two questions, however often the service changes. */
const SHORTEST_CYCLE_MS = 200;

const healthy = z.array(
  z.object({
    Node: z.object({ Address: z.string() }),
    Service: z.object({
      Address: z.string().default(""),
      Port: z.number(),
      Weights: z.object({ Passing: z.number() }).optional(),
    }),
  }),
);

/**
 * The instances that pass all of their checks, by blocking queries: https://developer.hashicorp.com/consul/api-docs/features/blocking
 * Tested against a server that speaks as this documentation says, not against a real Consul.
 */
export function createConsulSource({ service, tag }: ConsulTarget, config: ConsulConfig): Source {
  const client = createConsulClient(config);

  function pathAt(index: number): string {
    const query = new URLSearchParams({ passing: "1" });
    if (tag !== undefined) query.set("tag", tag);
    if (config.datacenter !== undefined) query.set("dc", config.datacenter);
    if (index > 0) {
      query.set("index", String(index));
      query.set("wait", `${WAIT_S}s`);
    }
    return `/v1/health/service/${encodeURIComponent(service)}?${query}`;
  }

  return {
    pauseMs: 0,
    async follow(found, signal) {
      let index = 0;
      while (!signal.aborted) {
        const timeoutMs = index > 0 ? ANSWER_MS : FIRST_ANSWER_MS;
        const { headers, body } = await client.call("GET", pathAt(index), { timeoutMs, signal });
        found(readAnswer(healthy, body, config.address).flatMap(endpointOf));
        index = nextIndex(index, headers["x-consul-index"]);
        await sleep(SHORTEST_CYCLE_MS, signal, { keepsAlive: false });
      }
    },
  };
}

/** By the rules of the documentation: one that goes back begins anew, and one below 1 would not block. */
function nextIndex(last: number, header: string | string[] | undefined): number {
  const index = Number(header);
  if (!Number.isSafeInteger(index) || index < 1) return last === 0 ? 1 : 0;
  return index < last ? 0 : index;
}

function endpointOf({ Node, Service }: z.output<typeof healthy>[number]): Endpoint[] {
  const host = Service.Address === "" ? Node.Address : Service.Address;
  if (host === "" || !isPort(Service.Port)) return [];
  return [endpointAt(joinHostPort(host, Service.Port), Math.max(Service.Weights?.Passing ?? 1, 1))];
}
