// What the compiler must refuse: each line under a @ts-expect-error is an error, or `tsc` fails.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { UserCreated, UserGreeted } from "#gen/user/v1/user_events_pb.ts";
import { UserCreatedSchema, UserGreetedSchema } from "#gen/user/v1/user_events_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { silent } from "#shared/testing";
import { createEventBus, type EventBus, rabbitmqSection } from "./index.ts";

const config = rabbitmqSection.parse({ exchange: "types", queue: "types" });

function bus(): EventBus {
  return createEventBus({ config, source: "test", logger: silent, readiness: createReadiness() });
}

const events = [UserGreetedSchema, UserCreatedSchema] as const;
const onGreeted = (_: UserGreeted) => {};
const onCreated = (_: UserCreated) => {};

test("a handler of each event is what a consumer needs", () => {
  bus().consume({ events, handlers: { "user.v1.UserGreeted": onGreeted, "user.v1.UserCreated": onCreated } });
});

test("a missing handler does not compile, and is refused", () => {
  assert.throws(() => {
    // @ts-expect-error: UserCreated has no handler
    bus().consume({ events, handlers: { "user.v1.UserGreeted": onGreeted } });
  }, TypeError);
});

test("a handler of another event does not compile", () => {
  // @ts-expect-error: the handlers are in each other's place
  bus().consume({ events, handlers: { "user.v1.UserGreeted": onCreated, "user.v1.UserCreated": onGreeted } });
  const handlers = { "user.v1.UserGreeted": onGreeted };
  bus().consume({ queue: "b", events: [UserGreetedSchema], handlers });
  // @ts-expect-error: nobody has asked for UserCreated
  const more = { "user.v1.UserGreeted": onGreeted, "user.v1.UserCreated": onCreated } satisfies Handlers;
  assert.ok(more);
});

test("a handler without a guard is given no transaction", () => {
  bus().consume({
    events: [UserGreetedSchema],
    // @ts-expect-error: `tx` is the inbox's
    handlers: { "user.v1.UserGreeted": (_: UserGreeted, { tx }) => tx },
  });
});

test("a message with fields of another does not compile", async () => {
  const publishing = () =>
    // @ts-expect-error: UserGreeted has no userId
    bus().publish(UserGreetedSchema, { userId: "1" });
  await assert.rejects(publishing());
});

type Handlers = import("./index.ts").EventHandlers<readonly [typeof UserGreetedSchema]>;
