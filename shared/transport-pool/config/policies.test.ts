import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import type { z } from "zod";
import { breakerSection } from "./breaker.ts";
import { codesSchema, isServerFault } from "./codes.ts";
import { hedgeSection } from "./hedge.ts";
import { methodRetrySection, retrySection, throttleSection } from "./retry.ts";

function faults(schema: z.ZodType, value: unknown): string[] {
  const { error } = schema.safeParse(value);
  return (error?.issues ?? []).map(({ path }) => path.join("."));
}

test("codes are named as gRPC or Connect spells them, in any case, each counted once", () => {
  const names = ["UNAVAILABLE", "unavailable", "Aborted", "canceled", "CANCELLED", "resource_exhausted"];
  assert.deepEqual(codesSchema.parse(names), [Code.Unavailable, Code.Aborted, Code.Canceled, Code.ResourceExhausted]);
});

test("what is no code of a failure is refused where it stands, and so is an empty list", () => {
  assert.deepEqual(faults(codesSchema, ["UNAVAILABLE", "OK", "NOPE", 14]), ["1", "2", "3"]);
  assert.deepEqual(faults(codesSchema, []), [""]);
});

test("every code has a name", () => {
  const codes = Object.values(Code).filter((code) => typeof code === "number");
  const names = codes.map((code) => Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_"));
  assert.deepEqual(codesSchema.parse(names), codes);
});

test("a fault of the server is what says that the peer or the way to it is unwell", () => {
  const codes = Object.values(Code).filter((code) => typeof code === "number");
  assert.deepEqual(new Set(codes.filter(isServerFault)), new Set([2, 4, 13, 14, 15]));
});

test("the original design's retry section loads, and the rest has gRPC's defaults", () => {
  assert.deepEqual(retrySection.parse({ max: 3, timeout: "10s", backoff: "100ms" }), {
    max: 3,
    timeoutMs: 10_000,
    backoffMs: 100,
    multiplier: 1.6,
    maxBackoffMs: 1_000,
    codes: [Code.Unavailable],
    throttle: { maxTokens: 500, tokenRatio: 0.1 },
  });
});

test("there are at most five attempts, whatever is configured", () => {
  assert.equal(retrySection.parse({ max: 50 }).max, 4);
  assert.deepEqual(faults(retrySection, { max: 0 }), ["max"]);
});

test("a backoff that is longer than the default of max_backoff is kept; a max_backoff below it is a fault", () => {
  assert.equal(methodRetrySection.parse({ max: 1, backoff: "2s" }).maxBackoffMs, 2_000);
  assert.deepEqual(faults(methodRetrySection, { max: 1, backoff: "2s", max_backoff: "1s" }), ["max_backoff"]);
});

test("a method's retry has no throttle: the bucket is the service's", () => {
  assert.deepEqual(faults(methodRetrySection, { max: 1, throttle: {} }), [""]);
});

test("of the token ratio three decimals are kept, and one of none is refused", () => {
  for (const [given, kept] of [
    [0.1, 0.1],
    [0.29, 0.29],
    [0.1239, 0.123],
    [1.005, 1.005],
    [0.001, 0.001],
  ] as const) {
    assert.equal(throttleSection.parse({ token_ratio: given }).tokenRatio, kept);
  }
  for (const ratio of [0, -1, 0.0009])
    assert.deepEqual(faults(throttleSection, { token_ratio: ratio }), ["token_ratio"]);
  for (const max of [0, -1, 1_000.5]) assert.deepEqual(faults(throttleSection, { max_tokens: max }), ["max_tokens"]);
});

test("a hedge section can be empty, and sends no more than four hedges", () => {
  assert.deepEqual(hedgeSection.parse({}), { delayMs: 50, max: 1, codes: [Code.Unavailable] });
  assert.deepEqual(faults(hedgeSection, { max: 5 }), ["max"]);
  assert.deepEqual(faults(hedgeSection, { max: 0 }), ["max"]);
});

test("a breaker is on by default, and never open for less than its first time", () => {
  assert.deepEqual(breakerSection.parse({}), {
    enabled: true,
    failureRatio: 0.5,
    minCalls: 20,
    windowMs: 10_000,
    openMs: 5_000,
    maxOpenMs: 60_000,
  });
  assert.equal(breakerSection.parse({ open: "90s" }).maxOpenMs, 90_000);
  assert.deepEqual(faults(breakerSection, { open: "9s", max_open: "8s" }), ["max_open"]);
  assert.deepEqual(faults(breakerSection, { failure_ratio: 1.1 }), ["failure_ratio"]);
});
