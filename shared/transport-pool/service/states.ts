import { describeError } from "#shared/errors";
import type { Channel } from "../balancing/channel.ts";
import { type Endpoint, errorOf, type Health } from "../balancing/endpoint.ts";
import type { ServiceConfig } from "../config/service.ts";
import type { SubchannelState } from "../connections/subchannel.ts";
import type { Breakers } from "../interceptors/breaker/breakers.ts";
import type { RetryThrottle } from "../interceptors/retry/retry-throttle.ts";
import type { MethodPolicies } from "./method-policies.ts";
import { type MethodState, methodStates, type PolicyState, policyState } from "./method-states.ts";
import type { ServiceChannel } from "./service-channel.ts";

/** How things stand with one service. Made for people and for JSON. */
export interface ServiceState {
  readonly name: string;
  /** As configured. */
  readonly address: string;
  readonly protocol: ServiceConfig["protocol"];
  /** That of the best endpoint, as gRPC puts them together: ready, connecting, idle, transient_failure. */
  readonly state: SubchannelState;
  /** Calls that have not ended, those that wait for a connection among them. */
  readonly openCalls: number;
  /** What is wrong, when no call can be sent: of the resolver, or of the first endpoint. */
  readonly lastError?: string;
  readonly balancer: ServiceConfig["balancer"]["policy"];
  readonly endpoints: readonly EndpointState[];
  /** What is left in the bucket that retries and hedges draw on (gRFC A6); without `retry` and `hedge` there are none. */
  readonly retryTokens?: number;
  /** What holds for methods that may be repeated and have no configuration of their own. */
  readonly policy: PolicyState;
  /** By name: each that has been called. */
  readonly methods: Readonly<Record<string, MethodState>>;
  /** Connections that a reload has replaced and that still carry calls. */
  readonly replacedChannels?: number;
}

export interface EndpointState {
  readonly address: string;
  readonly state: SubchannelState;
  /** Open TCP connections. */
  readonly connections: number;
  readonly openCalls: number;
  readonly weight: number;
  readonly priority: number;
  /** False while a sign of life is overdue: calls go elsewhere. */
  readonly responsive: boolean;
  readonly health: Health;
  /** Exponentially weighted average of the time that answers take; null before the first. */
  readonly latencyMs: number | null;
  /** Left alone for so many more milliseconds (gRFC A50). */
  readonly ejectedForMs?: number;
  readonly lastError?: string;
}

export interface StateParts {
  readonly config: ServiceConfig;
  readonly channel: ServiceChannel;
  readonly policies: MethodPolicies;
  readonly breakers: Pick<Breakers, "states">;
  readonly throttle: RetryThrottle;
  readonly replaced: readonly Channel[];
}

export function stateOf({ config, channel, policies, breakers, throttle, replaced }: StateParts): ServiceState {
  const now = performance.now();
  const endpoints = channel.endpoints().map((endpoint) => endpointState(endpoint, channel, now));
  const error = channel.state() === "ready" ? undefined : (channel.resolverError() ?? firstError(channel));
  const isRepeating = [config, ...Object.values(config.methods)].some(
    ({ retry, hedge }) => typeof retry === "object" || typeof hedge === "object",
  );
  return {
    name: config.name,
    address: config.address.text,
    protocol: config.protocol,
    state: channel.state(),
    openCalls: [channel, ...replaced].reduce((sum, one) => sum + one.openCalls(), 0),
    ...(error === undefined ? {} : { lastError: describeError(error) }),
    balancer: config.balancer.policy,
    endpoints,
    ...(isRepeating ? { retryTokens: throttle.tokens() } : {}),
    policy: policyState({
      timeoutMs: config.timeoutMs,
      waitForReady: config.waitForReady,
      ...(config.retry === undefined ? {} : { retry: config.retry }),
      ...(config.hedge === undefined ? {} : { hedge: config.hedge }),
      ...(config.breaker.enabled ? { breaker: config.breaker } : {}),
    }),
    methods: methodStates(policies, breakers, now),
    ...(replaced.length === 0 ? {} : { replacedChannels: replaced.length }),
  };
}

function endpointState(endpoint: Endpoint, channel: ServiceChannel, now: number): EndpointState {
  const { address, subchannel, weight, priority, health } = endpoint;
  const latencyMs = endpoint.latencyMs(now);
  const ejectedUntil = channel.outliers?.states().get(address)?.ejectedUntil;
  const error = subchannel.lastError();
  return {
    address,
    state: subchannel.state(),
    connections: subchannel.connections(),
    openCalls: endpoint.inFlight,
    weight,
    priority,
    responsive: subchannel.isResponsive(),
    health,
    latencyMs: latencyMs === undefined ? null : Math.round(latencyMs * 100) / 100,
    ...(ejectedUntil === undefined ? {} : { ejectedForMs: Math.max(0, Math.round(ejectedUntil - now)) }),
    ...(error === undefined ? {} : { lastError: describeError(error) }),
  };
}

function firstError(channel: Channel): Error | undefined {
  for (const endpoint of channel.endpoints()) {
    const error = errorOf(endpoint);
    if (error !== undefined) return error;
  }
  return undefined;
}
