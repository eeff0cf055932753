import { distinct, type Endpoint, sameEndpoints } from "../addresses/endpoint.ts";
import type { ResolverListener } from "./resolver.ts";
import type { Found } from "./source.ts";

/**
 * What is known of a service's endpoints. A registry that was emptied by mistake, or has just come back without its data,
 * must not end all calls: an empty list is believed only when it stays for `graceMs`.
 */
export interface SteadySet {
  readonly found: Found;
  /** The registry is lost: what it has said last is neither believed nor forgotten. */
  failed(error: Error): void;
  /** Nothing is told afterwards. */
  close(): void;
}

export interface SteadySetOptions {
  readonly graceMs: number;
  readonly listener: ResolverListener;
  /** An empty list is not believed yet; so many endpoints are kept. */
  readonly onHeld: (kept: number) => void;
  /** An empty list is believed, after it was held. */
  readonly onBelieved: () => void;
}

export function createSteadySet({ graceMs, listener, onHeld, onBelieved }: SteadySetOptions): SteadySet {
  /** What the listener was told last. */
  let told: readonly Endpoint[] | undefined;
  let holding: NodeJS.Timeout | undefined;
  let reason: Error | undefined;
  let closed = false;

  function release(): void {
    clearTimeout(holding);
    holding = undefined;
  }

  function tell(endpoints: readonly Endpoint[]): void {
    if (told !== undefined && sameEndpoints(told, endpoints)) return;
    told = endpoints;
    listener.onEndpoints(endpoints);
    // Whoever is told that there are none may be about to say why.
    if (endpoints.length === 0 && reason !== undefined) listener.onError(reason);
  }

  function believe(): void {
    release();
    onBelieved();
    tell([]);
  }

  return {
    found(endpoints, why) {
      if (closed) return;
      reason = why;
      const isKeeping = endpoints.length === 0 && told !== undefined && told.length > 0;
      if (!isKeeping) {
        release();
        tell(distinct(endpoints));
      } else if (holding === undefined) {
        onHeld(told?.length ?? 0);
        holding = setTimeout(believe, graceMs);
        holding.unref();
      }
    },
    failed(error) {
      if (closed) return;
      release();
      listener.onError(error);
    },
    close() {
      closed = true;
      release();
    },
  };
}
