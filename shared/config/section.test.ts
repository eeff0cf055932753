import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { duration, section } from "./index.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function assertType<_Check extends true>(): void {}

const retrySection = section({ max_attempts: z.int().default(3), backoff: duration("100ms") });
const serverSection = section({
  name: z.string().min(1),
  host: z.string().default("127.0.0.1"),
  port: z.int().min(0).max(65535),
  shutdown_timeout: duration("10s"),
  idle_timeout: duration().optional(),
  steps: z.array(duration()).default([]),
  max_read_bytes: z.int().optional(),
  retry: retrySection.prefault({}),
  peers: z.array(section({ ping_every: duration() })).optional(),
});

test("a section takes snake_case keys and gives camelCase keys, with durations in milliseconds", () => {
  const server = serverSection.parse({
    name: "user",
    port: 0,
    shutdown_timeout: "1m",
    idle_timeout: "1.5h",
    steps: ["1s", "250ms"],
    max_read_bytes: 1,
    retry: { max_attempts: 5 },
    peers: [{ ping_every: "30s" }],
  });
  assert.deepEqual(server, {
    name: "user",
    host: "127.0.0.1",
    port: 0,
    shutdownTimeoutMs: 60_000,
    idleTimeoutMs: 5_400_000,
    stepsMs: [1_000, 250],
    maxReadBytes: 1,
    retry: { maxAttempts: 5, backoffMs: 100 },
    peers: [{ pingEveryMs: 30_000 }],
  });
});

test("what is left out is not there, unless it has a default", () => {
  const server = serverSection.parse({ name: "user", port: 9001 });
  assert.deepEqual(server, {
    name: "user",
    host: "127.0.0.1",
    port: 9001,
    shutdownTimeoutMs: 10_000,
    stepsMs: [],
    retry: { maxAttempts: 3, backoffMs: 100 },
  });
  assert.equal("idleTimeoutMs" in server, false);
});

test("the type of a section says the same", () => {
  type Server = z.output<typeof serverSection>;
  assertType<
    Equal<
      Server,
      {
        name: string;
        host: string;
        port: number;
        shutdownTimeoutMs: number;
        idleTimeoutMs?: number;
        stepsMs: number[];
        maxReadBytes?: number;
        retry: { maxAttempts: number; backoffMs: number };
        peers?: { pingEveryMs: number }[];
      }
    >
  >();
});

test("a duration is known through refinements and wrappers", () => {
  const shape = section({
    checked: duration("5s").refine((ms) => ms < 10_000),
    nullable: duration().nullable().optional(),
    piped: duration()
      .default(7 as never)
      .readonly(),
  });
  assert.deepEqual(shape.parse({ nullable: "1s" }), { checkedMs: 5_000, nullableMs: 1_000, pipedMs: 7 });
});

test("a section can be refined, and stand in a discriminated union", () => {
  const bounded = section({ min: duration("1s"), max: duration("2s") }).refine(({ minMs, maxMs }) => minMs <= maxMs, {
    path: ["min"],
  });
  assert.equal(bounded.safeParse({ min: "3s" }).success, false);
  const either = z.discriminatedUnion("kind", [
    section({ kind: z.literal("static"), host_name: z.string() }),
    section({ kind: z.literal("dns"), poll_every: duration("30s") }),
  ]);
  assert.deepEqual(either.parse({ kind: "dns" }), { kind: "dns", pollEveryMs: 30_000 });
});

test("a key that is not snake_case is refused when the section is made", () => {
  assert.throws(() => section({ maxBytes: z.int() }), TypeError);
});

test("durations come in the units of the original's files", () => {
  const given = {
    "5s": 5_000,
    "100ms": 100,
    "1m": 60_000,
    "1.5h": 5_400_000,
    "1m30s": 90_000,
    "0": 0,
    "0s": 0,
    "1.005s": 1_005,
  };
  for (const [text, ms] of Object.entries(given)) assert.equal(duration().parse(text), ms, text);
  assert.equal(duration().parse(0), 0);
});

test("what is not a duration is refused", () => {
  const refused = [
    5,
    0.5,
    "5",
    "-5s",
    "+5s",
    "5 s",
    "s",
    "",
    "5d",
    "1e3ms",
    "0.5ms",
    "abc",
    "5s!",
    "s5",
    true,
    null,
    {},
    "1000h",
  ];
  for (const value of refused) assert.equal(duration().safeParse(value).success, false, String(value));
});

test("a duration keeps to its limits", () => {
  const limited = duration("2s", { min: "1s", max: "720h" });
  assert.equal(limited.parse(undefined), 2_000);
  assert.equal(limited.parse("720h"), 2_592_000_000);
  assert.equal(limited.safeParse("999ms").success, false);
  assert.equal(limited.safeParse("721h").success, false);
});

test("a bad default is a mistake in the code, told at once", () => {
  assert.throws(() => duration("5"), TypeError);
  assert.throws(() => duration("5s", { max: "soon" }), TypeError);
});
