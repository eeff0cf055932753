import type { Endpoint } from "./endpoint.ts";

/** Begins to connect where connections are wanted and nobody has begun. */
export type Connecting = (endpoints: readonly Endpoint[]) => void;

/** Connections to all peers, as `round_robin`, `least_request` and `consistent_hash` want them. */
export const connectToAll: Connecting = (endpoints) => {
  for (const { subchannel } of endpoints) subchannel.connect();
};

/** How long the first address is given before the next is tried beside it (gRFC A61). */
const HEAD_START_MS = 250;

/**
 * As `pick_first` wants it: to the first peer of the list; to the next when that cannot be reached, or takes long.
 *
 * @param again is called when it is time to look again, with somebody waiting
 */
export function connectToFirst(again: () => void): Connecting {
  let timer: NodeJS.Timeout | undefined;
  const begunAt = new WeakMap<Endpoint, number>();
  return (endpoints) => {
    for (const endpoint of endpoints) {
      const { subchannel } = endpoint;
      if (subchannel.state() === "idle") {
        begunAt.set(endpoint, performance.now());
        subchannel.connect();
      }
      const state = subchannel.state();
      if (state === "ready") return;
      const leftMs = HEAD_START_MS - (performance.now() - (begunAt.get(endpoint) ?? 0));
      if (state === "connecting" && leftMs > 0) {
        clearTimeout(timer);
        timer = setTimeout(again, leftMs).unref();
        return;
      }
    }
  };
}
