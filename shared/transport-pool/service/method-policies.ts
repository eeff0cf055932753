import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { ConfigError, type ConfigFault } from "#shared/config";
import type { MethodPolicy } from "../call/method-policy.ts";
import type { MethodConfig, ServiceConfig } from "../config/service.ts";

/** The policy of each method of one service. */
export interface MethodPolicies {
  of(method: DescMethod): MethodPolicy;
  /** By full name, of those methods that have been called since the configuration came. */
  known(): ReadonlyMap<string, MethodPolicy>;
  /** From now on, for new calls. */
  replace(config: ServiceConfig): void;
  /**
   * @throws ConfigError with every method of this service that the configuration names and that does not exist, or that
   * must not be hedged
   */
  check(service: DescService): void;
}

export function createMethodPolicies(initial: ServiceConfig): MethodPolicies {
  let config = initial;
  let known = new Map<DescMethod, MethodPolicy>();
  return {
    of(method) {
      let policy = known.get(method);
      if (policy === undefined) {
        policy = policyOf(method, config);
        known.set(method, policy);
      }
      return policy;
    },
    known: () => new Map([...known].map(([method, policy]) => [nameOf(method), policy])),
    replace(next) {
      config = next;
      known = new Map();
    },
    check: (service) => checkMethods(service, config),
  };
}

/**
 * Retry and hedging go by the proto's `idempotency_level`: what has no side effects may be hedged, that and what is
 * idempotent may be retried. A method's own `retry` is taken at its word; no method's `hedge` is, also where nothing has
 * called `check`.
 */
function policyOf(method: DescMethod, config: ServiceConfig): MethodPolicy {
  const own: MethodConfig = config.methods[nameOf(method)] ?? {};
  const hasNoEffects = method.idempotency === Idempotency.NO_SIDE_EFFECTS;
  const mayRepeat = hasNoEffects || method.idempotency === Idempotency.IDEMPOTENT;
  const breaker = own.breaker ?? config.breaker;
  const base = {
    timeoutMs: own.timeoutMs ?? config.timeoutMs,
    waitForReady: own.waitForReady ?? config.waitForReady,
    ...(breaker.enabled ? { breaker } : {}),
  };
  if (typeof own.hedge === "object" && hasNoEffects) return { ...base, hedge: own.hedge };
  if (typeof own.retry === "object") return { ...base, retry: own.retry };
  if (config.hedge !== undefined && own.hedge !== "off" && hasNoEffects) return { ...base, hedge: config.hedge };
  if (config.retry === undefined || own.retry === "off") return base;
  return { ...base, ...(mayRepeat ? { retry: config.retry } : { unreachableRetry: config.retry }) };
}

function checkMethods(service: DescService, config: ServiceConfig): void {
  const faults: ConfigFault[] = [];
  for (const [name, { hedge }] of Object.entries(config.methods)) {
    const [typeName, methodName] = name.split("/");
    if (typeName !== service.typeName) continue;
    const path = `${config.name}.methods["${name}"]`;
    const method = service.methods.find((one) => one.name === methodName);
    if (method === undefined) {
      const names = service.methods.map((one) => one.name).join(", ");
      faults.push({ path, message: `${typeName} has no such method; it has ${names}` });
    } else if (typeof hedge === "object" && method.idempotency !== Idempotency.NO_SIDE_EFFECTS) {
      const message = "only a method whose idempotency_level is NO_SIDE_EFFECTS can be hedged";
      faults.push({ path: `${path}.hedge`, message });
    }
  }
  if (faults.length > 0) throw new ConfigError("grpc_clients.services", faults);
}

function nameOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}
