import type { BalancerConfig } from "../../config/balancer.ts";
import type { Balancer } from "./balancer.ts";
import { createConsistentHash } from "./consistent-hash.ts";
import { createLeastRequest } from "./least-request.ts";
import { createPickFirst } from "./pick-first.ts";
import { createRoundRobin } from "./round-robin.ts";

const policies: Record<BalancerConfig["policy"], (random: () => number) => Balancer> = {
  pick_first: createPickFirst,
  round_robin: createRoundRobin,
  least_request: createLeastRequest,
  consistent_hash: createConsistentHash,
};

/**
 * The balancer of one service. It remembers its last picks: each service has its own.
 *
 * @param random gives numbers from 0 up to 1; default Math.random
 */
export function createBalancer(config: BalancerConfig, random: () => number = Math.random): Balancer {
  return policies[config.policy](random);
}
