import assert from "node:assert/strict";
import { test } from "node:test";
import { createPickFirst } from "./pick-first.ts";
import { candidates, context } from "./test-support.ts";

test("all calls go to the first", () => {
  const balancer = createPickFirst();
  const among = candidates(3);
  for (let call = 0; call < 10; call++) assert.equal(balancer.pick(among, context()), among[0]);
});

test("it stays with the one that it has, wherever that stands in the list", () => {
  const balancer = createPickFirst();
  const [one, two, three] = candidates(3);
  assert.equal(balancer.pick([two!, three!], context()), two);
  assert.equal(balancer.pick([one!, three!, two!], context()), two);
  assert.equal(balancer.pick([two!], context()), two);
});

test("when that is gone, it takes the first and stays with it", () => {
  const balancer = createPickFirst();
  const [one, two, three] = candidates(3);
  balancer.pick([one!, two!, three!], context());
  assert.equal(balancer.pick([three!, two!], context()), three);
  assert.equal(balancer.pick([one!, two!, three!], context()), three);
});

test("a call that must go elsewhere does not take the others along", () => {
  const balancer = createPickFirst();
  const [one, two, three] = candidates(3);
  const all = [one!, two!, three!];
  balancer.pick(all, context());
  assert.equal(balancer.pick([two!, three!], { ...context(), isPartial: true }), two);
  assert.equal(balancer.pick(all, context()), one);
});

test("to pick from nothing is a mistake", () => {
  assert.throws(() => createPickFirst().pick([], context()), RangeError);
});
