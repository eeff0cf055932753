import type { Subchannel } from "../connections/subchannel.ts";
import { createLatency } from "./health/latency.ts";
import type { Candidate } from "./policies/balancer.ts";

/** `unwatched` without a `health_check`; `unknown` until the peer has told. */
export type Health = "unwatched" | "unknown" | "serving" | "not_serving";

/** One peer of a service: the way to it, and how it has done so far. */
export interface Endpoint extends Candidate {
  readonly subchannel: Subchannel;
  /** Lower ones are tried first, as in SRV records. */
  readonly priority: number;
  readonly health: Health;
  /** An attempt begins. */
  begin(): void;
  /** An attempt has ended; `ms` is missing when that says nothing of how fast the peer is. */
  end(outcome: { readonly ms?: number | undefined; readonly isFault: boolean; readonly now: number }): void;
}

/** What its owner changes. */
export interface OwnedEndpoint extends Endpoint {
  weight: number;
  priority: number;
  health: Health;
  /** It begins anew: how it has done so far says nothing any more. */
  forget(): void;
}

export interface EndpointOptions {
  readonly address: string;
  readonly weight: number;
  readonly priority: number;
  readonly health: Health;
  readonly subchannel: Subchannel;
}

export function createEndpoint(options: EndpointOptions): OwnedEndpoint {
  const latency = createLatency();
  let inFlight = 0;
  return {
    ...options,
    get inFlight() {
      return inFlight;
    },
    latencyMs: (now) => latency.value(now),
    forget: () => latency.forget(),
    begin() {
      inFlight++;
    },
    end({ ms, isFault, now }) {
      inFlight--;
      if (ms !== undefined) latency.record(ms, isFault, now);
    },
  };
}

/** Why it takes no calls, when that is so. */
export function errorOf({ subchannel, health, address }: Endpoint): Error | undefined {
  const isTold = subchannel.state() === "ready" && health === "not_serving";
  const notServing = isTold ? new Error(`${address} says that it does not serve`) : undefined;
  return subchannel.lastError() ?? notServing;
}
