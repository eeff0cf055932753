import type { Code } from "@connectrpc/connect";
import { nameOfCode } from "#shared/errors";
import type { MethodPolicy } from "../call/method-policy.ts";
import type { BreakerState as BreakerSnapshot } from "../interceptors/breaker/breaker.ts";
import type { Breakers } from "../interceptors/breaker/breakers.ts";
import type { MethodPolicies } from "./method-policies.ts";

export interface MethodState {
  readonly policy: PolicyState;
  readonly breaker?: BreakerState;
}

/** A method's policy with its codes by name. */
export type PolicyState = {
  readonly [Key in keyof MethodPolicy]: WithCodeNames<MethodPolicy[Key]>;
};

type WithCodeNames<Part> = Part extends { readonly codes: readonly Code[] }
  ? Omit<Part, "codes"> & { readonly codes: readonly string[] }
  : Part;

export interface BreakerState extends Omit<BreakerSnapshot, "retryAtMs"> {
  /** When the next call is let through at the latest; missing when closed. */
  readonly retryInMs?: number;
}

export function methodStates(
  policies: MethodPolicies,
  breakers: Pick<Breakers, "states">,
  now: number,
): Record<string, MethodState> {
  const states: Record<string, MethodState> = {};
  const snapshots = breakers.states();
  for (const [name, policy] of policies.known()) {
    const breaker = policy.breaker === undefined ? undefined : snapshots.get(name);
    states[name] = {
      policy: policyState(policy),
      ...(breaker === undefined ? {} : { breaker: breakerState(breaker, now) }),
    };
  }
  return states;
}

export function policyState({ retry, unreachableRetry, hedge, ...rest }: MethodPolicy): PolicyState {
  return {
    ...rest,
    ...(retry === undefined ? {} : { retry: withCodeNames(retry) }),
    ...(unreachableRetry === undefined ? {} : { unreachableRetry: withCodeNames(unreachableRetry) }),
    ...(hedge === undefined ? {} : { hedge: withCodeNames(hedge) }),
  };
}

function withCodeNames<Part extends { readonly codes: readonly Code[] }>(part: Part) {
  return { ...part, codes: part.codes.map(nameOfCode) };
}

/** On the breaker's own clock a time means nothing to others. */
function breakerState({ retryAtMs, ...rest }: BreakerSnapshot, now: number): BreakerState {
  return retryAtMs === undefined ? rest : { ...rest, retryInMs: Math.max(0, Math.round(retryAtMs - now)) };
}
