// One contract for both buses: whatever holds here holds over RabbitMQ and inside of a process.

import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { Connection } from "rabbitmq-client";
import { type Greeted, GreetedSchema, RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { ItemSchema } from "#gen/testing/v1/testing_pb.ts";
import { currentCall, runInCall, startTrace } from "#shared/call-context";
import { type DomainError, markPeerError } from "#shared/errors";
import { createReadiness, type Readiness } from "#shared/lifecycle";
import { databaseForTest, type RecordedLog, rabbitmqForTest, recordLog, until, within } from "#shared/testing";
import { createEnvelope } from "./envelope.ts";
import type { EventContext } from "./handler.ts";
import {
  type ConsumerGuard,
  createEventBus,
  createInbox,
  createInProcessBroker,
  type EventBus,
  type EventEnvelope,
  eventTypeOf,
  type GuardResult,
  inboxMigration,
  RejectedEventError,
  rabbitmqSection,
  withPrepare,
} from "./index.ts";

/** What services of one test share: a broker, and names in it. */
interface World {
  readonly queue: string;
  /** A service's bus, not started; closed after the test. */
  bus(yaml?: Readonly<Record<string, unknown>>, source?: string): TestBus;
  deadLetters(queue?: string): Promise<readonly DeadLetter[]>;
}

interface TestBus {
  readonly bus: EventBus;
  readonly log: RecordedLog;
  readonly readiness: Readiness;
}

interface DeadLetter {
  readonly id: string;
  readonly reason: string;
  readonly attempts: number;
}

const DELAYS = ["40ms", "80ms"];

const worlds: Record<string, (t: TestContext) => Promise<World | undefined>> = {
  async "the in-process bus"(t) {
    const broker = createInProcessBroker();
    const queue = "user_service_queue";
    t.after(() => void broker.close());
    return {
      queue,
      bus: busIn(t, { exchange: "test", queue }, broker),
      deadLetters: async (name = queue) =>
        broker.deadLetters(name).map(({ envelope, reason, attempts }) => ({ id: envelope.id, reason, attempts })),
    };
  },

  async "the bus over RabbitMQ"(t) {
    const rabbitmq = await rabbitmqForTest(t);
    if (rabbitmq === undefined) return undefined;
    const { url } = rabbitmq;
    const [exchange, queue] = [rabbitmq.name("exchange"), rabbitmq.name("queue")];
    for (const name of [queue, `${queue}_b`]) {
      rabbitmq.alsoDelete(name, `${name}.dead`, ...DELAYS.map((delay) => `${name}.retry.${delay}`));
    }
    return {
      queue,
      bus: busIn(t, { url, exchange, queue }),
      deadLetters: (name = queue) => drainDeadLetters(url, name),
    };
  },
};

function busIn(
  t: TestContext,
  names: Readonly<Record<string, unknown>>,
  broker?: ReturnType<typeof createInProcessBroker>,
) {
  return (yaml: Readonly<Record<string, unknown>> = {}, source = "test-service"): TestBus => {
    const config = rabbitmqSection.parse({ ...names, retry: { delays: DELAYS }, ...yaml });
    const [log, readiness] = [recordLog(), createReadiness()];
    const bus = createEventBus({ config, source, logger: log.logger, readiness, ...(broker && { broker }) });
    t.after(() => bus.close());
    return { bus, log, readiness };
  };
}

/** Takes them out. */
async function drainDeadLetters(url: string, queue: string): Promise<DeadLetter[]> {
  const rabbit = new Connection({ url });
  rabbit.on("error", () => {});
  try {
    const found: DeadLetter[] = [];
    for (;;) {
      const message = await rabbit.basicGet({ queue: `${queue}.dead`, noAck: true });
      if (message === undefined) return found;
      const headers = message.headers ?? {};
      found.push({
        id: message.messageId ?? "",
        reason: headers["x-dead-letter-reason"],
        attempts: headers["x-attempt"],
      });
    }
  } finally {
    await rabbit.close();
  }
}

const created = { userId: "0197f0c4-8a2b-7c3d-9e4f-2f1d0c9e4b00", username: "ada" };
const greeting = { name: "Ada", message: "Hello Ada!" };

/** An event as another publisher may have made it. */
function envelopeOf(changes: Partial<EventEnvelope> = {}): EventEnvelope {
  const type = eventTypeOf(GreetedSchema);
  return { ...createEnvelope(type, greeting, { source: "somebody", encoding: "protobuf" }), ...changes };
}

/** Handles greetings as the test says, and remembers them. */
function recorder(handle: (event: Greeted, context: EventContext) => Promise<void> | void = () => {}) {
  const seen: { event: Greeted; context: EventContext }[] = [];
  return {
    seen,
    names: () => seen.map(({ event }) => event.name),
    events: [GreetedSchema] as const,
    handlers: {
      async "testing.v1.Greeted"(event: Greeted, context: EventContext) {
        seen.push({ event, context });
        await handle(event, context);
      },
    },
  };
}

for (const [name, enter] of Object.entries(worlds)) {
  describe(name, () => {
    test("brings an event to its handler, with where it comes from", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus({}, "greeter");
      const { seen, ...handling } = recorder();
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      const before = Date.now();
      await bus.publish(GreetedSchema, greeting, { key: "Ada" });
      await until("the event", () => seen.length === 1);
      const [{ event, context }] = seen as [(typeof seen)[0]];
      assert.deepEqual({ name: event.name, message: event.message }, greeting);
      const { source, key, attempt } = context;
      assert.deepEqual({ source, key, attempt }, { source: "greeter", key: "Ada", attempt: 1 });
      assert.match(context.id, /^[0-9a-f-]{36}$/);
      assert.ok(context.time.getTime() >= before && context.time.getTime() <= Date.now());
    });

    test("hands the trace and the request id of the call on to the handler, and not its deadline", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const calls: ReturnType<typeof currentCall>[] = [];
      const consumer = bus.consume(recorder(() => void calls.push(currentCall())));
      await bus.start();
      await consumer.start();
      const trace = startTrace();
      const signal = AbortSignal.abort();
      await runInCall({ method: "SayHello", requestId: "r-1", trace, deadlineMs: performance.now(), signal }, () =>
        bus.publish(GreetedSchema, greeting),
      );
      await until("the event", () => calls.length === 1);
      const call = calls[0]!;
      assert.equal(call.trace.traceId, trace.traceId);
      assert.equal(call.trace.parentSpanId, trace.spanId);
      assert.deepEqual([call.requestId, call.method, call.caller], ["r-1", "testing.v1.Greeted", "test-service"]);
      assert.equal(call.signal.aborted, false);
      assert.ok(call.deadlineMs! > performance.now());
    });

    test("keeps events for a consumer that begins later", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const { names, ...handling } = recorder();
      const consumer = bus.consume(handling);
      await bus.start();
      for (const who of ["a", "b", "c"]) await bus.publish(GreetedSchema, { ...greeting, name: who });
      await consumer.start();
      await until("the events", () => names().length === 3);
      assert.deepEqual(names().sort(), ["a", "b", "c"]);
    });

    test("gives each queue every event, and of the consumers of one queue each event to one", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const [first, second, other] = [recorder(), recorder(), recorder()];
      const [one, two] = [world.bus().bus, world.bus().bus];
      const consumers = [one.consume(first), two.consume(second), one.consume({ queue: `${world.queue}_b`, ...other })];
      for (const bus of [one, two]) await bus.start();
      for (const consumer of consumers) await consumer.start();
      await until("all to consume", () => [one, two].every(isConsuming));
      const names = Array.from({ length: 40 }, (_, n) => `n${n}`);
      await Promise.all(names.map((who) => one.publish(GreetedSchema, { ...greeting, name: who })));
      await until("all events", () => first.seen.length + second.seen.length >= 40 && other.seen.length >= 40);
      assert.deepEqual([...first.names(), ...second.names()].sort(), names.sort());
      assert.deepEqual(other.names().sort(), names);
      assert.ok(first.seen.length > 0 && second.seen.length > 0);
    });

    test("makes an event of an unknown type a dead letter, after each of the delays", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus, log } = world.bus({ routing_key: "testing.#" });
      const consumer = bus.consume(recorder());
      await bus.start();
      await consumer.start();
      await bus.publish(RegisteredSchema, created);
      await until("the dead letter", () => bus.states().consumers[0]?.counts.deadLettered === 1);
      assert.equal(bus.states().consumers[0]?.counts.postponed, DELAYS.length);
      const line = log.lines.find(({ reason }) => reason === "unknown_type");
      assert.equal(line?.["event_type"], "testing.v1.Registered");
      const [letter] = await world.deadLetters();
      assert.equal(letter?.reason, "unknown_type");
    });

    test("acknowledges an unknown type that only the pattern matches when the configuration says so", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus, log } = world.bus({ routing_key: "testing.#", ignore_unknown: true });
      const consumer = bus.consume(recorder());
      await bus.start();
      await consumer.start();
      await bus.publish(RegisteredSchema, created);
      await until("the event", () => bus.states().consumers[0]?.counts.ignored === 1);
      const line = log.lines.find(({ msg }) => String(msg).includes("unknown type"));
      assert.equal(line?.["event_type"], "testing.v1.Registered");
      assert.deepEqual(await world.deadLetters(), []);
    });

    test("does not ignore an unknown type whose routing key belongs to a handler", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus({ routing_key: "testing.#", ignore_unknown: true });
      const consumer = bus.consume(recorder());
      await bus.start();
      await consumer.start();
      await bus.send(envelopeOf({ type: "testing.v2.Greeted" }));
      await until("the dead letter", () => bus.states().consumers[0]?.counts.deadLettered === 1);
      assert.equal((await world.deadLetters())[0]?.reason, "unknown_type");
    });

    test("gives a handler what its step before the transaction has prepared", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const steps: string[] = [];
      const guard: ConsumerGuard<{ readonly tx: string }> = {
        batchSize: 10,
        ready: async () => {},
        async run(_, messages, work) {
          steps.push(`transaction of ${messages.length}`);
          const results: GuardResult[] = [];
          for (const message of messages) {
            const done = work(message, { tx: "tx" }).then(() => ({ kind: "done" }) as const);
            results.push(await done.catch((error: unknown) => ({ kind: "failed", error }) as const));
          }
          return results;
        },
      };
      const consumer = bus.consume({
        events: [GreetedSchema],
        guard,
        handlers: {
          "testing.v1.Greeted": withPrepare({
            prepare: ({ name: who }: Greeted, { signal, attempt }) => {
              steps.push(`prepare ${who}`);
              if (attempt === 1) throw new Error("not yet");
              return { who, isAborted: signal.aborted };
            },
            handle: ({ name: who }, { tx, prepared }) => {
              assert.deepEqual(prepared, { who, isAborted: false });
              steps.push(`handle ${who} in ${tx}`);
            },
          }),
        },
      });
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, greeting);
      await until("the event", () => bus.states().consumers[0]?.counts.handled === 1);
      assert.deepEqual(steps, [
        "prepare Ada",
        // Its failure is the guard's to judge, too: a copy or an outage is no failed attempt.
        "transaction of 1",
        "prepare Ada",
        "transaction of 1",
        "handle Ada in tx",
      ]);
    });

    test("puts an event off while a peer is away, at no attempt's cost, until that takes too long", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      // The delays of 40 and 80 ms, and the last one twice more, are within the bound.
      const { bus } = world.bus({ retry: { delays: DELAYS, peer_outage: "290ms" } });
      const away = () => markPeerError(new ConnectError("away", Code.Unavailable), "book-service");
      const { seen, ...handling } = recorder(() => {
        throw away();
      });
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, greeting);
      await until("the dead letter", () => bus.states().consumers[0]?.counts.deadLettered === 1);
      const { postponed, retried } = bus.states().consumers[0]?.counts ?? {};
      assert.deepEqual({ postponed, retried }, { postponed: 4, retried: DELAYS.length });
      assert.deepEqual(
        seen.map(({ context }) => context.attempt),
        [1, 2, 3, 4, 5, 6, 7],
      );
      assert.equal((await world.deadLetters())[0]?.reason, "attempts_exhausted");
    });

    test("refuses limits of a handler that contradict its guard, and a guard of an ephemeral queue", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus({ handler_timeout: "2s" });
      const guard: ConsumerGuard<Record<never, never>> = {
        batchSize: 1,
        maxHandlerMs: 1_000,
        ready: async () => {},
        run: async () => [],
      };
      assert.throws(() => bus.consume({ ...recorder(), guard }), RangeError);
      const narrow = { ...guard, maxHandlerMs: 3_000, maxConcurrency: 3 };
      assert.throws(() => bus.consume({ ...recorder(), guard: narrow }), /rabbitmq.concurrency is 4, .* allows 3/);
      assert.throws(
        () => bus.consume({ ...recorder(), guard: { ...guard, maxHandlerMs: 3_000 }, ephemeral: true }),
        TypeError,
      );
    });

    test("tries again what a handler fails on, after each of the delays", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const at: number[] = [];
      const { seen, ...handling } = recorder((_, { attempt }) => {
        at.push(performance.now());
        if (attempt < 3) throw new Error("not yet");
      });
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, greeting, { key: "k" });
      await until("the third attempt", () => seen.length === 3);
      assert.deepEqual(
        seen.map(({ context }) => context.attempt),
        [1, 2, 3],
      );
      assert.equal(new Set(seen.map(({ context }) => context.id)).size, 1);
      assert.equal(new Set(seen.map(({ context }) => context.key)).size, 1);
      assert.ok(at[1]! - at[0]! >= 35 && at[2]! - at[1]! >= 75, at.join());
      await until("the counts", () => bus.states().consumers[0]?.counts.handled === 1);
      assert.equal(bus.states().consumers[0]?.counts.retried, 2);
      assert.deepEqual(await world.deadLetters(), []);
    });

    test("makes a dead letter of what fails to the last, with reason and attempts, and goes on with the rest", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const { seen, names, ...handling } = recorder(({ name: who }) => {
        if (who === "bad") throw new Error("never");
      });
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, { ...greeting, name: "bad" });
      await bus.publish(GreetedSchema, { ...greeting, name: "good" });
      await until("a dead letter", () => bus.states().consumers[0]?.counts.deadLettered === 1);
      assert.deepEqual(names().filter((who) => who === "bad").length, 3);
      assert.ok(names().includes("good"));
      const id = seen.find(({ event }) => event.name === "bad")!.context.id;
      assert.deepEqual(await deadLettersOf(world), [{ id, reason: "attempts_exhausted", attempts: 3 }]);
    });

    test("makes a dead letter at once of what a handler rejects", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const { seen, ...handling } = recorder(() => {
        throw new RejectedEventError("there is no such user, and never will be");
      });
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, greeting);
      const [letter] = await deadLettersOf(world);
      assert.deepEqual(letter, { id: seen[0]!.context.id, reason: "rejected", attempts: 1 });
      assert.equal(seen.length, 1);
    });

    test("makes a dead letter of what cannot be read, without a handler, and goes on with the rest", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const { names, ...handling } = recorder();
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      const broken = envelopeOf({ body: Buffer.from([0xff]) });
      await bus.send(broken);
      await bus.publish(GreetedSchema, greeting);
      assert.deepEqual(await deadLettersOf(world), [{ id: broken.id, reason: "undecodable", attempts: 1 }]);
      await until("the good one", () => names().length === 1);
    });

    test("ends a handler's attempt at its deadline, and its signal says so", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus({ handler_timeout: "30ms", retry: { delays: [] } });
      const { seen, ...handling } = recorder(() => new Promise(() => {}));
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, greeting);
      const [letter] = await deadLettersOf(world);
      assert.equal(letter?.reason, "attempts_exhausted");
      assert.equal(seen[0]!.context.signal.aborted, true);
      assert.equal(seen[0]!.context.signal.reason.reason, "EVENT_HANDLER_TIMEOUT");
    });

    test("handles one key's events one after the other in their order, and others meanwhile", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus({ concurrency: 8 });
      const busy = new Set<string>();
      let most = 0;
      const { seen, ...handling } = recorder(async (_, { key }) => {
        assert.ok(!busy.has(key), "two of one key at once");
        busy.add(key);
        most = Math.max(most, busy.size);
        await new Promise((resolve) => setImmediate(resolve));
        busy.delete(key);
      });
      const consumer = bus.consume(handling);
      await bus.start();
      for (let n = 0; n < 100; n++) {
        await bus.publish(GreetedSchema, { ...greeting, name: String(n) }, { key: `k${n % 5}` });
      }
      await consumer.start();
      await until("all events", () => seen.length >= 100);
      for (let key = 0; key < 5; key++) {
        const numbers = seen.filter(({ context }) => context.key === `k${key}`).map(({ event }) => Number(event.name));
        assert.deepEqual(
          numbers,
          Array.from({ length: 20 }, (_, n) => n * 5 + key),
        );
      }
      assert.ok(most > 1, "keys are handled side by side");
      assert.equal(seen.length, 100);
    });

    test("rejects an event that no queue takes, unless it may be", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      await bus.start();
      await assert.rejects(bus.publish(GreetedSchema, greeting), {
        code: "unavailable",
        reason: "EVENT_UNROUTABLE",
        metadata: { routing_key: "testing.greeted" },
      });
      await assert.rejects(bus.send(envelopeOf()), { reason: "EVENT_UNROUTABLE" });
      await bus.publish(RegisteredSchema, created);
    });

    test("rejects an event whose queue is full, and takes it when there is room", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus({ max_length: 5 });
      const { seen, ...handling } = recorder();
      const consumer = bus.consume(handling);
      await bus.start();
      let taken = 0;
      let refusal: unknown;
      // RabbitMQ's quorum queues take a few more than the limit before they notice.
      for (; refusal === undefined && taken < 500; taken++) {
        await bus.publish(GreetedSchema, greeting).catch((error: unknown) => {
          refusal = error;
          taken--;
        });
      }
      const { code, reason } = refusal as DomainError;
      assert.deepEqual([code, reason], ["resource_exhausted", "EVENT_REFUSED"]);
      await consumer.start();
      await until("what was taken", () => seen.length === taken);
      await until("room", () =>
        bus.publish(GreetedSchema, greeting).then(
          () => true,
          () => false,
        ),
      );
      await until("one more", () => seen.length === taken + 1);
    });

    test("reads JSON as it reads protobuf, and the original design's bare JSON", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus({ encoding: "json", routing_key: "testing.#" });
      const { seen, ...handling } = recorder();
      const consumer = bus.consume(handling);
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, greeting);
      await bus.send(envelopeOf());
      const body = Buffer.from(JSON.stringify({ type: "hello", ...greeting }));
      await bus.send(envelopeOf({ type: "", contentType: "application/json", routingKey: "testing.hello", body }));
      await until("all three", () => seen.length === 3);
      for (const { event } of seen) assert.deepEqual({ name: event.name, message: event.message }, greeting);
    });

    test("lets a guarded effect happen once, however often the event comes", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { db } = await databaseForTest<Record<never, never>>(t, { migrations: { "001_inbox": inboxMigration } });
      const inbox = createInbox({ db, logger: recordLog("silent").logger });
      const { bus } = world.bus({ concurrency: 2 });
      const { seen, ...handling } = recorder();
      const consumer = bus.consume({ ...handling, guard: inbox });
      await bus.start();
      await consumer.start();
      const envelope = envelopeOf();
      await Promise.all([bus.send(envelope), bus.send(envelope), bus.send(envelope)]);
      await bus.send(envelope);
      await until("the copies", () => bus.states().consumers[0]?.counts.duplicates === 3);
      assert.equal(seen.length, 1);
    });

    test("gives an ephemeral consumer what is published while it is there, each replica every event", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const [one, two] = [world.bus().bus, world.bus().bus];
      const [first, second] = [recorder(), recorder()];
      const consumers = [one.consume({ ephemeral: true, ...first }), two.consume({ ephemeral: true, ...second })];
      await one.start();
      await two.start();
      for (const consumer of consumers) await consumer.start();
      await until("both to consume", () => [one, two].every(isConsuming));
      await one.publish(GreetedSchema, greeting);
      await until("both to have it", () => first.seen.length === 1 && second.seen.length === 1);
      await consumers[0]!.close();
      await two.publish(GreetedSchema, greeting);
      await until("the other to have it", () => second.seen.length === 2);
      assert.equal(first.seen.length, 1);
      await consumers[1]!.close();
      await assert.rejects(two.publish(GreetedSchema, greeting), { reason: "EVENT_UNROUTABLE" });
    });

    test("finishes what runs when a consumer closes, and leaves the rest to another", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const [one, two] = [world.bus({ concurrency: 2 }).bus, world.bus().bus];
      const { promise: gate, resolve: open } = Promise.withResolvers<void>();
      const first = recorder(() => gate);
      const second = recorder();
      const closing = one.consume(first);
      const staying = two.consume(second);
      await one.start();
      await two.start();
      await closing.start();
      for (let n = 0; n < 20; n++) await one.publish(GreetedSchema, { ...greeting, name: String(n) });
      await until("two to run", () => first.seen.length === 2);
      const closed = closing.close();
      open();
      await within(closed, "the close");
      await staying.start();
      await until("the rest", () => second.seen.length >= 18);
      assert.equal(first.seen.length, 2);
      assert.deepEqual(
        [...first.names(), ...second.names()].sort(),
        Array.from({ length: 20 }, (_, n) => String(n)).sort(),
      );
    });

    test("refuses to publish once it is closed, and what is no event", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus, readiness } = world.bus();
      assert.equal(readiness.state().ready, false);
      await bus.start();
      assert.equal(readiness.state().ready, true);
      await assert.rejects(bus.publish(GreetedSchema, greeting, { key: "k".repeat(256) }), RangeError);
      // The types cannot know: any message may be declared as an event.
      await assert.rejects(async () => bus.publish(ItemSchema, {}), TypeError);
      await bus.close();
      await assert.rejects(bus.publish(GreetedSchema, greeting), {
        code: "unavailable",
        reason: "EVENT_BUS_UNAVAILABLE",
      });
      await bus.close();
    });

    test("closes a consumer that has only just been started", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      for (const turns of [0, 1, 5, 20]) {
        const { bus } = world.bus();
        const consumer = bus.consume(recorder());
        await bus.start();
        await consumer.start();
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
        await within(consumer.close(), "the consumer's close");
        await within(bus.close(), "the bus's close");
      }
    });

    test("spends no attempt on a guard that rejects, and goes on when it does not", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      const { seen, ...handling } = recorder();
      let calls = 0;
      const guard: ConsumerGuard<Record<never, never>> = {
        batchSize: 10,
        ready: async () => {},
        async run(_, messages, work) {
          if (++calls < 3) throw new Error("broken");
          for (const message of messages) await work(message, {});
          return messages.map(() => ({ kind: "done" }));
        },
      };
      const consumer = bus.consume({ ...handling, guard });
      await bus.start();
      await consumer.start();
      await bus.publish(GreetedSchema, greeting);
      await until("the event to be handled", () => bus.states().consumers[0]?.counts.handled === 1);
      assert.deepEqual([seen.length, seen[0]?.context.attempt], [1, 1]);
    });

    test("refuses a second consumer of a queue", async (t) => {
      const world = await enter(t);
      if (world === undefined) return;
      const { bus } = world.bus();
      bus.consume(recorder());
      assert.throws(() => bus.consume(recorder()));
    });
  });
}

function isConsuming(bus: EventBus): boolean {
  return bus.states().consumers.every(({ state }) => state === "consuming");
}

/** Waits until there is one: what the broker has confirmed is not what a reader has seen. */
async function deadLettersOf(world: World): Promise<readonly DeadLetter[]> {
  let letters: readonly DeadLetter[] = [];
  await until("a dead letter", async () => {
    letters = [...letters, ...(await world.deadLetters())];
    return letters.length > 0;
  });
  return letters;
}
