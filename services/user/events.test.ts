import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type UserCreated,
  UserCreatedSchema,
  type UserGreeted,
  UserGreetedSchema,
} from "#gen/user/v1/user_events_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { currentCall, startTrace } from "#shared/call-context";
import {
  createEventBus,
  createInProcessBroker,
  type EventContext,
  type EventEnvelope,
  type InProcessBroker,
  rabbitmqSection,
} from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { clientAt, deadUrl, embeddedForTest, recordLog, silent, until } from "#shared/testing";
import { createUserApp } from "./app.ts";
import { userConfigSection } from "./config.ts";

const QUEUE = "user_service_queue";

/** The app, and somebody who hears it. */
async function start(t: TestContext) {
  const broker = createInProcessBroker();
  t.after(() => broker.close());
  const listener = await startListener(t, broker);
  const config = userConfigSection.parse({
    server: { name: "user-service", host: "127.0.0.1", port: 0 },
    rabbitmq: { exchange: "bookshop", queue: QUEUE, routing_key: "user.#" },
  });
  const log = recordLog();
  const app = createUserApp(config, { logger: log.logger, embedded: await embeddedForTest(), broker });
  await app.start();
  t.after(() => app.stop());
  await app.ready(AbortSignal.timeout(20_000));
  const client = clientAt(t, app.url, UserService);
  const greetingsOf = async (id: string) => (await client.getUser({ id })).user?.greetings;
  return { broker, listener, log, client, greetingsOf };
}

/** An event as it came. */
interface Heard {
  readonly event: UserCreated | UserGreeted;
  readonly key: string;
  readonly source: string;
  readonly traceId: string | undefined;
}

async function startListener(t: TestContext, broker: InProcessBroker) {
  const config = rabbitmqSection.parse({ exchange: "bookshop", queue: "listener_queue" });
  const bus = createEventBus({ config, source: "listener", logger: silent, readiness: createReadiness(), broker });
  const heard: Heard[] = [];
  const hear = (event: Heard["event"], { key, source }: EventContext) =>
    void heard.push({ event, key, source, traceId: currentCall()?.trace.traceId });
  const consumer = bus.consume({
    events: [UserCreatedSchema, UserGreetedSchema],
    handlers: { "user.v1.UserCreated": hear, "user.v1.UserGreeted": hear },
  });
  await bus.start();
  await consumer.start();
  t.after(async () => {
    await consumer.close();
    await bus.close();
  });
  return {
    bus,
    /** What was heard with this key, once there are so many. */
    async heard(key: string, count: number) {
      const matching = () => heard.filter((one) => one.key === key);
      await until(`${count} events`, () => matching().length >= count);
      return matching();
    },
  };
}

const newUser = () => ({
  username: `ada ${randomUUID()}`,
  email: `${randomUUID()}@example.com`,
  requestId: randomUUID(),
});

/** As it lies in a queue. */
function greeted(name: string): EventEnvelope {
  return {
    id: randomUUID(),
    type: UserGreetedSchema.typeName,
    source: "user-service",
    timeMs: Date.now(),
    key: name,
    routingKey: "user.greeted",
    mustBeRouted: true,
    contentType: "application/protobuf",
    body: toBinary(UserGreetedSchema, create(UserGreetedSchema, { name })),
    context: {},
  };
}

describe("a greeting", () => {
  test("is announced, in the caller's trace", async (t) => {
    const { listener, log, client } = await start(t);
    const name = `Ada ${randomUUID()}`;
    await client.createUser({ ...newUser(), username: name });
    const { traceId, spanId } = startTrace();
    const { message } = await client.sayHello({ name }, { headers: { traceparent: `00-${traceId}-${spanId}-01` } });
    const event = create(UserGreetedSchema, { name, message });
    assert.deepEqual(await listener.heard(name, 1), [{ event, key: name, source: "user-service", traceId }]);
    await log.line({ level: "info", msg: "greeting counted", trace_id: traceId });
  });

  test("is counted for the user who has that name or that id, and shows wherever a user does", async (t) => {
    const { client, greetingsOf } = await start(t);
    const request = newUser();
    const { user } = await client.createUser(request);
    assert.equal(user?.greetings, 0n);
    for (const name of [user.username, user.id, user.username, "somebody else"]) await client.sayHello({ name });
    await until("three greetings", async () => (await greetingsOf(user.id)) === 3n);
    const { users } = await client.listUsers({ pageSize: 500 });
    assert.equal(users.find(({ id }) => id === user.id)?.greetings, 3n);
    assert.equal((await client.createUser(request)).user?.greetings, 3n);
    const namesake = { ...newUser(), username: user.username };
    assert.equal((await client.createUser(namesake)).user?.greetings, 2n);
  });

  test("is counted once, however often it comes", async (t) => {
    const { listener, client, greetingsOf } = await start(t);
    const { user } = await client.createUser(newUser());
    const envelope = greeted(user!.username);
    await Promise.all([envelope, envelope, envelope].map((copy) => listener.bus.send(copy)));
    await listener.bus.send(envelope);
    assert.equal(await greetingsOf(user!.id), 1n);
  });

  test("of an older publisher, in bare JSON and without a type or an id that is ours, is counted too", async (t) => {
    const { broker, listener, client, greetingsOf } = await start(t);
    const { user } = await client.createUser(newUser());
    const hello = { type: "hello", name: user!.username, message: "Hello!" };
    await listener.bus.send({
      ...greeted(""),
      id: `hello-${randomUUID()}`,
      type: "",
      source: "",
      routingKey: "user.hello",
      contentType: "application/json",
      body: Buffer.from(JSON.stringify(hello)),
    });
    assert.equal(await greetingsOf(user!.id), 1n);
    assert.deepEqual(broker.deadLetters(QUEUE), []);
  });

  test("goes out while the database is away, and a warning says that it was not announced", async (t) => {
    const config = userConfigSection.parse({
      server: { name: "user-service", host: "127.0.0.1", port: 0 },
      database: { url: `postgres://${new URL(await deadUrl(t)).host}/none` },
    });
    const log = recordLog();
    const app = createUserApp(config, { logger: log.logger });
    await app.start();
    t.after(() => app.stop());
    const { message } = await clientAt(t, app.url, UserService).sayHello({ name: "Ada" });
    assert.equal(message, "Hello Ada! Book service not available");
    await log.line({ level: "warn", msg: "greeting not announced" });
  });
});

test("a new user is announced once, in the caller's trace, and handled without a word", async (t) => {
  const { broker, listener, log, client } = await start(t);
  const { traceId, spanId } = startTrace();
  const headers = { traceparent: `00-${traceId}-${spanId}-01` };
  const request = newUser();
  const { user } = await client.createUser(request, { headers });
  await client.createUser(request);
  const { user: second } = await client.createUser(newUser());
  await listener.heard(second!.id, 1);
  const event = create(UserCreatedSchema, { userId: user!.id, username: request.username });
  assert.deepEqual(await listener.heard(user!.id, 1), [{ event, key: user!.id, source: "user-service", traceId }]);
  assert.deepEqual(log.matching({ msg: "event of an unknown type acknowledged" }), []);
  assert.deepEqual(broker.deadLetters(QUEUE), []);
});
