import { AsyncLocalStorage } from "node:async_hooks";
import type { ConnectError } from "@connectrpc/connect";
import type { Endpoint as ResolvedEndpoint, Resolver } from "#shared/discovery";
import { describeError } from "#shared/errors";
import type { EndSignal } from "../call/lazy-abort-signal.ts";
import { notProcessed } from "../call/not-processed-error.ts";
import type { SubchannelState } from "../connections/subchannel.ts";
import { createWaiters } from "../connections/waiters.ts";
import type { Connecting } from "./connecting.ts";
import { type Endpoint, errorOf } from "./endpoint.ts";
import type { EndpointSet } from "./endpoint-set.ts";
import type { Balancer } from "./policies/balancer.ts";

/** The way to a service: all of its peers, and the choice among them. */
export interface Channel {
  /**
   * Where a call may go; an attempt has begun there (see `Endpoint.begin`), and has to end. At once when there is a peer
   * to go to; waits while peers are being looked up or connected to; rejects with an `unreachable` error when none can be
   * reached, and the call does not want to wait for that to change.
   *
   * @param now the clock of `performance.now()`, which is slow to read
   */
  pick(call: PickCall, now?: number): Endpoint | Promise<Endpoint>;
  /** Begins to look its peers up and to connect to them. Returns at once. */
  connect(): void;
  /** One of the endpoints has changed. */
  changed(): void;
  /** A connection is lost or could not be made: the peers may be others by now. */
  refresh(): void;
  endpoints(): readonly Endpoint[];
  /** That of its best endpoint, as gRPC puts them together (ready, connecting, idle, transient_failure). */
  state(): SubchannelState;
  /** Calls that wait for a peer, and those on their way to one, be it no longer listed. */
  openCalls(): number;
  /** Why the service's peers are not known, when that is so. */
  resolverError(): Error | undefined;
  /** See `Subchannel.close`. Calls that come later are told the reason. */
  close(timeoutMs: number, reason?: string): Promise<void>;
}

export interface PickCall {
  readonly signal: EndSignal;
  readonly waitForReady: boolean;
  /** Addresses to avoid when there are others. */
  readonly tried: ReadonlySet<string> | undefined;
  readonly hashKey: string | undefined;
}

export interface ChannelOptions {
  /** The service's name, for messages. */
  readonly name: string;
  /** Its configured address, for messages. */
  readonly target: string;
  readonly resolver: Resolver;
  readonly endpoints: EndpointSet;
  readonly balancer: Balancer;
  readonly connecting: Connecting;
  /** How many of the resolved peers are used, and which. */
  readonly subset: (resolved: readonly ResolvedEndpoint[]) => readonly ResolvedEndpoint[];
  /** The set of peers is another one. */
  readonly onEndpoints: (endpoints: readonly Endpoint[]) => void;
}

export function createChannel(options: ChannelOptions): Channel {
  const { name, target, resolver, endpoints, balancer, connecting } = options;
  // What begins here outlives the call that happens to begin it.
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const waiters = createWaiters<void>();
  let state: "idle" | "resolving" | "known" | "closed" = "idle";
  let closedBecause = "";
  let resolverError: Error | undefined;
  /** Whether some endpoint may have no connection that should have one. */
  let mayConnect = false;

  function connect(): void {
    if (state === "closed") return;
    if (state === "idle") {
      state = "resolving";
      outsideOfCalls(() => resolver.start({ onEndpoints, onError }));
    }
    if (!mayConnect) return;
    mayConnect = false;
    connecting(endpoints.all());
  }

  function onEndpoints(resolved: readonly ResolvedEndpoint[]): void {
    if (state === "closed") return;
    state = "known";
    resolverError = undefined;
    endpoints.update(options.subset(resolved));
    options.onEndpoints(endpoints.all());
    mayConnect = true;
    connect();
    waiters.resolveAll();
  }

  function onError(error: Error): void {
    resolverError = error;
    waiters.resolveAll();
  }

  /** Why there is no sense in waiting; undefined when there is. */
  function hopeless(): ConnectError | undefined {
    const known = endpoints.all();
    if (known.length === 0) {
      if (resolverError !== undefined) return unreachable(resolverError);
      return state === "known" ? unreachable(new Error("no instance of it is known")) : undefined;
    }
    let error: Error | undefined;
    for (const endpoint of known) {
      if (stateOf(endpoint) !== "transient_failure") return undefined;
      error ??= errorOf(endpoint);
    }
    return unreachable(error);
  }

  function unreachable(cause: Error | undefined): ConnectError {
    const reason = cause === undefined ? "" : `: ${describeError(cause)}`;
    return notProcessed("unreachable", `${name} at ${target} cannot be reached${reason}`, cause);
  }

  function choose({ tried, hashKey }: PickCall, now: number): Endpoint | undefined {
    const candidates = endpoints.candidates();
    if (candidates.length === 0) return undefined;
    const context = { hashKey, now };
    if (tried === undefined || tried.size === 0) return balancer.pick(candidates, context);
    const untried = candidates.filter(({ address }) => !tried.has(address));
    return untried.length === 0
      ? balancer.pick(candidates, context)
      : balancer.pick(untried, { ...context, isPartial: true });
  }

  /** Undefined when there is none now, or none any more. */
  function pickNow(call: PickCall, now = performance.now()): Endpoint | undefined {
    if (state === "closed") return undefined;
    connect();
    const endpoint = choose(call, now);
    // At once: whoever chooses next in this turn of the event loop has to see it.
    endpoint?.begin();
    return endpoint;
  }

  async function pickLater(call: PickCall): Promise<Endpoint> {
    for (;;) {
      if (state === "closed") {
        throw notProcessed("rejected", `${name} at ${target} is not called any more: ${closedBecause}`);
      }
      const error = call.waitForReady ? undefined : hopeless();
      if (error !== undefined) throw error;
      await waiters.add(call.signal);
      const endpoint = pickNow(call);
      if (endpoint !== undefined) return endpoint;
    }
  }

  return {
    pick: (call, now) => pickNow(call, now) ?? pickLater(call),
    connect,
    changed() {
      endpoints.changed();
      mayConnect = true;
      waiters.resolveAll();
    },
    refresh: () => resolver.refresh(),
    endpoints: () => endpoints.all(),
    state() {
      if (state === "closed") return "shutdown";
      const states = endpoints.all().map(stateOf);
      const best = PRECEDENCE.find((one) => states.includes(one));
      if (best !== undefined) return best;
      if (resolverError !== undefined || state === "known") return "transient_failure";
      return state === "idle" ? "idle" : "connecting";
    },
    openCalls: () => waiters.size() + endpoints.openCalls(),
    resolverError: () => resolverError,
    async close(timeoutMs, reason = "the transport pool is closed") {
      if (state !== "closed") closedBecause = reason;
      state = "closed";
      resolver.stop();
      waiters.resolveAll();
      await endpoints.close(timeoutMs);
    },
  };
}

const PRECEDENCE: readonly SubchannelState[] = ["ready", "connecting", "idle", "transient_failure"];

/** A peer of which one does not know yet whether it serves is connecting; one that does not serve has failed (A17). */
function stateOf({ subchannel, health }: Endpoint): SubchannelState {
  const state = subchannel.state();
  if (state !== "ready" || health === "serving" || health === "unwatched") return state;
  return health === "unknown" ? "connecting" : "transient_failure";
}
