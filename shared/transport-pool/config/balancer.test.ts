import assert from "node:assert/strict";
import { test } from "node:test";
import { balancerSection } from "./balancer.ts";

function faultPaths(yaml: unknown): string[] {
  const { error } = balancerSection.safeParse(yaml);
  return (error?.issues ?? []).map(({ path }) => path.join("."));
}

test("calls go by least_request to all peers when nothing is said", () => {
  assert.deepEqual(balancerSection.parse({}), { policy: "least_request" });
});

test("every policy and a subset can be chosen", () => {
  for (const policy of ["pick_first", "round_robin", "least_request"]) {
    assert.deepEqual(balancerSection.parse({ policy, subset: 3 }), { policy, subset: 3 });
  }
  const hashed = { policy: "consistent_hash", hash_header: "x-user-id" };
  assert.deepEqual(balancerSection.parse(hashed), { policy: "consistent_hash", hashHeader: "x-user-id" });
});

test("consistent_hash needs a header, and no other policy takes one", () => {
  assert.deepEqual(faultPaths({ policy: "consistent_hash" }), ["hash_header"]);
  assert.deepEqual(faultPaths({ policy: "round_robin", hash_header: "x-user-id" }), ["hash_header"]);
  assert.deepEqual(faultPaths({ hash_header: "x-user-id" }), ["hash_header"]);
});

test("a header that HTTP/2 does not have is refused", () => {
  for (const header of ["", "X-User-Id", "x user", ":path", "x-user:id", "größe"]) {
    assert.deepEqual(faultPaths({ policy: "consistent_hash", hash_header: header }), ["hash_header"], header);
  }
});

test("every fault is found, not only the first", () => {
  assert.deepEqual(faultPaths({ policy: "consistent_hash", subset: 0 }).sort(), ["hash_header", "subset"]);
});

test("an unknown policy and an empty subset are refused", () => {
  assert.deepEqual(faultPaths({ policy: "random" }), ["policy"]);
  assert.deepEqual(faultPaths({ policy: "random", hash_header: "x-user-id" }), ["policy"]);
  for (const subset of [0, -1, 1.5, "3"]) assert.deepEqual(faultPaths({ subset }), ["subset"], String(subset));
});
