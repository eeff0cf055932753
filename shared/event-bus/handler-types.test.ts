// What the compiler must refuse: each line under a @ts-expect-error is an error, or `tsc` fails.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Greeted, Registered } from "#gen/testing/v1/testing_events_pb.ts";
import { GreetedSchema, RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { silent } from "#shared/testing";
import { createEventBus, type EventBus, rabbitmqSection } from "./index.ts";

const config = rabbitmqSection.parse({ exchange: "types", queue: "types" });

function bus(): EventBus {
  return createEventBus({ config, source: "test", logger: silent, readiness: createReadiness() });
}

const events = [GreetedSchema, RegisteredSchema] as const;
const onGreeted = (_: Greeted) => {};
const onRegistered = (_: Registered) => {};

test("a handler of each event is what a consumer needs", () => {
  bus().consume({ events, handlers: { "testing.v1.Greeted": onGreeted, "testing.v1.Registered": onRegistered } });
});

test("a missing handler does not compile, and is refused", () => {
  assert.throws(() => {
    // @ts-expect-error: Registered has no handler
    bus().consume({ events, handlers: { "testing.v1.Greeted": onGreeted } });
  }, TypeError);
});

test("a handler of another event does not compile", () => {
  // @ts-expect-error: the handlers are in each other's place
  bus().consume({ events, handlers: { "testing.v1.Greeted": onRegistered, "testing.v1.Registered": onGreeted } });
  const handlers = { "testing.v1.Greeted": onGreeted };
  bus().consume({ queue: "b", events: [GreetedSchema], handlers });
  // @ts-expect-error: Registered is not among the events
  const more = { "testing.v1.Greeted": onGreeted, "testing.v1.Registered": onRegistered } satisfies Handlers;
  assert.ok(more);
});

test("a handler without a guard is given no transaction", () => {
  bus().consume({
    events: [GreetedSchema],
    // @ts-expect-error: `tx` is the inbox's
    handlers: { "testing.v1.Greeted": (_: Greeted, { tx }) => tx },
  });
});

test("a message with fields of another does not compile", async () => {
  const publishing = () =>
    // @ts-expect-error: Greeted has no userId
    bus().publish(GreetedSchema, { userId: "1" });
  await assert.rejects(publishing());
});

type Handlers = import("./index.ts").EventHandlers<readonly [typeof GreetedSchema]>;
