import { distinct, type Endpoint, sameEndpoints } from "../addresses/endpoint.ts";
import type { ResolverListener } from "./resolver.ts";
import type { Found } from "./source.ts";

/**
 * Keeps the endpoints of a service. An empty list takes effect only when it lasts for `graceMs`: a registry that was
 * emptied by mistake, or came back without its data, must not end all calls.
 */
export interface SteadySet {
  readonly found: Found;
  /** The registry is lost: an empty list that is held stays held. */
  failed(error: Error): void;
  /** Ends it. The listener is not called any more. */
  close(): void;
}

export interface SteadySetOptions {
  readonly graceMs: number;
  readonly listener: ResolverListener;
  /** Called when an empty list is held back, with the number of endpoints that stay in use. */
  readonly onHeld: (kept: number) => void;
  /** Called when an empty list takes effect after it was held back. */
  readonly onBelieved: () => void;
}

export function createSteadySet({ graceMs, listener, onHeld, onBelieved }: SteadySetOptions): SteadySet {
  /** Endpoints that the listener was called with last. */
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
    // The source may report the reason next.
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
