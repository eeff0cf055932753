import { isDeepStrictEqual } from "node:util";
import type { DescService } from "@bufbuild/protobuf";
import type { Interceptor, Transport } from "@connectrpc/connect";
import type { DiscoveryConfig } from "#shared/discovery";
import type { Logger } from "#shared/logging";
import type { CallObserver } from "../call/call-record.ts";
import { inheritCall } from "../call/inherit-call.ts";
import { throttleSection } from "../config/retry.ts";
import type { ServiceConfig } from "../config/service.ts";
import { createAttempt } from "../interceptors/attempt.ts";
import { logBreaker } from "../interceptors/breaker/breaker-log.ts";
import { createBreakers } from "../interceptors/breaker/breakers.ts";
import { createCallLog } from "../interceptors/call-log.ts";
import { hedgeInterceptor } from "../interceptors/hedge.ts";
import { markErrorsInterceptor } from "../interceptors/mark-errors.ts";
import { observeCallsInterceptor } from "../interceptors/observe-calls.ts";
import { requestIdInterceptor } from "../interceptors/request-id.ts";
import { retryInterceptor } from "../interceptors/retry/retry.ts";
import { createRetryThrottle, type RetryThrottle } from "../interceptors/retry/retry-throttle.ts";
import { transparentRetryInterceptor } from "../interceptors/transparent-retry.ts";
import type { JsonOptions } from "../protocols/fallback.ts";
import { createTransport, originOf } from "../protocols/transport.ts";
import { createMethodPolicies } from "./method-policies.ts";
import { createReloadableTransport, type EndpointPicker } from "./reloadable-transport.ts";
import { createServiceChannel } from "./service-channel.ts";
import { type ServiceState, stateOf } from "./states.ts";

/** One service of the pool: its transport stays the same, whatever a reload changes behind it. */
export interface PooledService {
  readonly transport: Transport;
  connect(): void;
  /** @throws ConfigError when the configuration has something about the service's methods that cannot be */
  check(service: DescService): void;
  /**
   * What makes `next` hold. Throws, for each service that was checked before, as `check` does, and as the creation; then
   * nothing has changed.
   */
  prepare(next: ServiceConfig): () => void;
  state(): ServiceState;
  close(timeoutMs: number): Promise<void>;
}

export interface PooledServiceOptions {
  readonly logger: Logger;
  readonly caller: string;
  readonly interceptors: readonly Interceptor[];
  readonly discovery: DiscoveryConfig;
  readonly random: () => number;
  readonly jsonOptions: JsonOptions | undefined;
  readonly observers: readonly CallObserver[];
}

/** What a reload can change for calls to come while connections stay. */
const POLICY_KEYS = ["timeoutMs", "waitForReady", "retry", "hedge", "breaker", "methods"] as const;

/** @throws RangeError when its TLS files cannot be used */
export function createPooledService(initial: ServiceConfig, options: PooledServiceOptions): PooledService {
  const { logger, caller, interceptors: own, discovery, random, jsonOptions, observers } = options;
  const { name } = initial;
  const descriptions = new Set<DescService>();
  const policies = createMethodPolicies(initial);
  const breakers = createBreakers({ onChange: logBreaker(logger, name) });
  let config = initial;
  let bucket = bucketOf(config);
  const throttle: RetryThrottle = {
    allows: () => bucket.allows(),
    failed: () => bucket.failed(),
    succeeded: () => bucket.succeeded(),
    tokens: () => bucket.tokens(),
  };
  const reloadable = createReloadableTransport({
    initial,
    openChannel: (config) => createServiceChannel({ config, logger, discovery, random }),
    openTransport: sending,
  });

  /** What a call goes through, from the outside in; the last one sends it to one endpoint. */
  function sending(config: ServiceConfig, channel: EndpointPicker): Transport {
    const attempt = createAttempt({
      channel,
      hashHeader: config.balancer.hashHeader,
      onOutcome: ({ address }, isFault) => channel.latest().outliers?.record(address, !isFault),
    });
    const interceptors = [
      markErrorsInterceptor(name),
      observeCallsInterceptor({ config, observers: [createCallLog(logger), ...observers], logger }),
      ...own,
      requestIdInterceptor,
      breakers.interceptor,
      hedgeInterceptor({ throttle }),
      retryInterceptor({ throttle, random }),
      transparentRetryInterceptor(),
    ];
    return createTransport({ config, origin: originOf(config), interceptors, attempt, jsonOptions });
  }

  return {
    transport: inheritCall(reloadable.transport, { caller, policyOf: (method) => policies.of(method) }),
    connect: () => reloadable.current().connect(),
    check(service) {
      policies.check(service);
      descriptions.add(service);
    },
    prepare(next) {
      const checked = createMethodPolicies(next);
      for (const service of descriptions) checked.check(service);
      const isSame = isDeepStrictEqual(connectionPart(next), connectionPart(config));
      const useNext = isSame ? undefined : reloadable.prepare(next);
      return () => {
        useNext?.();
        if (!isDeepStrictEqual(throttleOf(next), throttleOf(config))) bucket = bucketOf(next);
        config = next;
        policies.replace(next);
      };
    },
    state: () =>
      stateOf({ config, channel: reloadable.current(), policies, breakers, throttle, replaced: reloadable.replaced() }),
    close: (timeoutMs) => reloadable.close(timeoutMs),
  };
}

function throttleOf({ retry }: ServiceConfig) {
  return retry?.throttle ?? throttleSection.parse({});
}

function bucketOf(config: ServiceConfig): RetryThrottle {
  return createRetryThrottle(throttleOf(config));
}

function connectionPart(config: ServiceConfig): Partial<ServiceConfig> {
  const part: Partial<Record<keyof ServiceConfig, unknown>> = { ...config };
  for (const key of POLICY_KEYS) delete part[key];
  return part as Partial<ServiceConfig>;
}
