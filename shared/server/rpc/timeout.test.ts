import assert from "node:assert/strict";
import { test } from "node:test";
import { cutTimeout } from "./timeout.ts";

const LONGEST_TIMER_MS = 2 ** 31 - 1;

for (const [what, given, maxMs, expectedMs, expectedHeader] of [
  ["a shorter timeout stays", "5S", 10_000, 5_000, "5S"],
  ["a longer one is cut", "20S", 10_000, 10_000, "10000m"],
  ["a missing one is set", undefined, 10_000, 10_000, "10000m"],
  ["without a limit a missing one stays missing", undefined, 0, undefined, undefined],
  ["without a limit one stays", "90M", 0, 5_400_000, "90M"],
  ["one that no timer can wait for is cut to what it can", "99999999H", 0, LONGEST_TIMER_MS, "2147483S"],
  ["hours", "1H", LONGEST_TIMER_MS, 3_600_000, "1H"],
  ["microseconds", "1500u", 10_000, 1.5, "1500u"],
  ["nanoseconds", "1000000n", 10_000, 1, "1000000n"],
  ["none at all is one that has passed", "0S", 10_000, 0, "0S"],
  ["nine digits are left for Connect to refuse", "123456789S", 10_000, undefined, "123456789S"],
  ["so is what has no unit", "5", 10_000, undefined, "5"],
] as const) {
  test(`grpc-timeout: ${what}`, () => {
    const headers = { "content-type": "application/grpc", ...(given === undefined ? {} : { "grpc-timeout": given }) };
    assert.equal(cutTimeout(headers, maxMs), expectedMs);
    assert.equal(Reflect.get(headers, "grpc-timeout"), expectedHeader);
    assert.equal(Reflect.get(headers, "connect-timeout-ms"), undefined);
  });
}

for (const [what, given, maxMs, expectedMs, expectedHeader] of [
  ["a shorter timeout stays", "5000", 10_000, 5_000, "5000"],
  ["a longer one is cut", "20000", 10_000, 10_000, "10000"],
  ["a missing one is set", undefined, 10_000, 10_000, "10000"],
  ["one that no timer can wait for is cut to what it can", "9999999999", 0, LONGEST_TIMER_MS, "2147483647"],
  ["eleven digits are left for Connect to refuse", "12345678901", 10_000, undefined, "12345678901"],
] as const) {
  test(`connect-timeout-ms: ${what}`, () => {
    const headers = { ...(given === undefined ? {} : { "connect-timeout-ms": given }) };
    assert.equal(cutTimeout(headers, maxMs), expectedMs);
    assert.equal(Reflect.get(headers, "connect-timeout-ms"), expectedHeader);
  });
}

test("each protocol has its own header, however its content type is spelt", () => {
  const grpc = { "content-type": "Application/gRPC-Web+proto", "connect-timeout-ms": "1", "grpc-timeout": "1S" };
  assert.equal(cutTimeout(grpc, 10_000), 1_000);
  const connect = { "content-type": "application/json", "connect-timeout-ms": "1000", "grpc-timeout": "1m" };
  assert.equal(cutTimeout(connect, 10_000), 1_000);
});
