import assert from "node:assert/strict";
import { test } from "node:test";
import { balancerSection } from "../../config/balancer.ts";
import { createBalancer } from "./create-balancer.ts";
import { candidates, context, seededRandom } from "./test-support.ts";

/** Which of three peers six calls go to, of which the second is busy. */
function picks(yaml: unknown, hashKey?: string): number[] {
  const among = candidates(3);
  among[1]!.inFlight = 9;
  const balancer = createBalancer(balancerSection.parse(yaml), seededRandom(1));
  return Array.from({ length: 60 }, () => among.indexOf(balancer.pick(among, context(hashKey))));
}

test("each policy has its balancer", () => {
  assert.deepEqual(new Set(picks({ policy: "pick_first" })), new Set([0]));
  const turns = picks({ policy: "round_robin" });
  for (const place of [0, 1, 2]) assert.equal(turns.filter((one) => one === place).length, 20);
  assert.deepEqual(new Set(picks({ policy: "least_request" })), new Set([0, 2]));
  const hash = { policy: "consistent_hash", hash_header: "x-user-id" };
  assert.equal(new Set(picks(hash, "user-1")).size, 1);
  assert.equal(new Set(picks(hash)).size, 3);
});

test("two services do not share what their balancers remember", () => {
  const config = balancerSection.parse({ policy: "pick_first" });
  const [one, two] = candidates(2);
  const first = createBalancer(config);
  const second = createBalancer(config);
  assert.equal(first.pick([two!], context()), two);
  assert.equal(second.pick([one!, two!], context()), one);
  assert.equal(first.pick([one!, two!], context()), two);
});
