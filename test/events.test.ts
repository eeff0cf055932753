// `npm run events`: what an operator has in hand. The command is a process of its own, as theirs is.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { text } from "node:stream/consumers";
import { after, type TestContext, test } from "node:test";
import { Connection } from "rabbitmq-client";
import { type Catalogue, type DeadLetterList, openBroker, redriveDeadLetters } from "#shared/events-cli";
import { type RabbitmqForTest, rabbitmqForTest, until, within } from "#shared/testing";
import { repository } from "./support/service-process.ts";

const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill("SIGKILL");
});

interface Ended {
  readonly code: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

function start(...args: string[]): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const { PATH, HOME, NODE_V8_COVERAGE } = process.env;
  const child = spawn(process.execPath, ["services/events.ts", ...args], {
    cwd: repository,
    env: { PATH, HOME, ...(NODE_V8_COVERAGE !== undefined && { NODE_V8_COVERAGE }) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  const ended = Promise.all([once(child, "close"), text(child.stdout), text(child.stderr)]).then(
    ([[code, signal], stdout, stderr]) => {
      children.delete(child);
      return { code: (code ?? signal) as Ended["code"], stdout, stderr };
    },
  );
  return { child, ended };
}

const events = (...args: string[]) => within(start(...args).ended, "the end of the command", 120_000);

async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await events(...args, "--json");
  assert.deepEqual([code, stderr], [0, ""]);
  return JSON.parse(stdout) as T;
}

/** A work queue and its dead-letter queue. */
async function queues(t: TestContext, rabbitmq: RabbitmqForTest) {
  const queue = rabbitmq.name("events_command", ".dead");
  const dead = `${queue}.dead`;
  const rabbit = new Connection({ url: rabbitmq.url, noDelay: true });
  rabbit.on("error", () => {});
  const channel = await rabbit.acquire();
  t.after(async () => {
    await channel.close();
    await rabbit.close();
  });
  await channel.confirmSelect();
  for (const name of [queue, dead]) {
    await channel.queueDeclare({ queue: name, durable: true, arguments: { "x-queue-type": "quorum" } });
  }
  return {
    queue,
    async bury(ids: readonly string[], type = "user.v1.UserCreated") {
      const common = { routingKey: dead, durable: true, type, contentType: "application/protobuf" };
      await Promise.all(ids.map((messageId) => channel.basicPublish({ ...common, messageId }, Buffer.of())));
    },
    async counts() {
      const declared = [queue, dead].map((name) => channel.queueDeclare({ queue: name, passive: true }));
      const [waiting, left] = (await Promise.all(declared)).map(({ messageCount }) => messageCount);
      return { waiting: waiting!, left: left! };
    },
    async take(name: "work" | "dead") {
      const ids: string[] = [];
      for (;;) {
        const message = await channel.basicGet({ queue: name === "work" ? queue : dead, noAck: true });
        if (message === undefined) return ids;
        ids.push(message.messageId!);
      }
    },
  };
}

test("dead letters are listed, shown, redriven and dropped", { timeout: 280_000 }, async (t) => {
  const rabbitmq = await rabbitmqForTest(t);
  if (rabbitmq === undefined) return;
  const { queue, bury, take } = await queues(t, rabbitmq);
  const where = ["--queue", queue, "--url", rabbitmq.url];
  await bury(["a", "b", "c"]);
  const { deadLetters, more } = await json<DeadLetterList>("dead-letters", "list", ...where, "--limit", "2");
  assert.deepEqual([deadLetters.map(({ id }) => id), more], [["a", "b"], 1]);
  const shown = await json<{ id: string }>("dead-letters", "show", ...where, "--id", "c");
  assert.equal(shown.id, "c");
  assert.deepEqual(await json("dead-letters", "drop", ...where, "--id", "b"), { queue, dropped: 1, of: 1 });
  assert.deepEqual(await json("dead-letters", "redrive", ...where), { queue, redriven: 2, of: 2 });
  assert.deepEqual([await take("work"), await take("dead")], [["a", "c"], []]);
});

test("every event of the catalogue can be shown", { timeout: 280_000 }, async (t) => {
  const rabbitmq = await rabbitmqForTest(t);
  if (rabbitmq === undefined) return;
  const { packages } = await json<Catalogue>("catalogue");
  const names = packages.flatMap((one) => one.events.map(({ name }) => name));
  assert.equal(names.length, 8);
  const { queue, bury } = await queues(t, rabbitmq);
  for (const type of names) {
    await bury([type], type);
    const options: string[] = ["--queue", queue, "--id", type, "--url", rabbitmq.url];
    const shown: { readonly message: unknown } = await json("dead-letters", "show", ...options);
    assert.deepEqual(shown.message, { kind: "event", type, json: {} });
  }
});

test("a redrive that is killed midway, twice, loses nothing", { timeout: 280_000 }, async (t) => {
  const rabbitmq = await rabbitmqForTest(t);
  if (rabbitmq === undefined) return;
  const { queue, bury, counts, take } = await queues(t, rabbitmq);
  const ids = Array.from({ length: 10_000 }, (_, i) => String(i));
  await bury(ids);
  let waiting = 0;
  for (let kills = 1; kills <= 2; kills++) {
    const { child, ended } = start("dead-letters", "redrive", "--queue", queue, "--url", rabbitmq.url);
    const before = waiting;
    await until("the redrive to be under way", async () => (await counts()).waiting > before);
    child.kill("SIGKILL");
    assert.equal((await ended).code, "SIGKILL");
    await until("the broker to have noticed", async () => {
      const { waiting: now, left } = await counts();
      waiting = now;
      return now + left >= ids.length;
    });
    assert.ok((await counts()).left > 0, "it was killed midway");
  }
  const broker = await openBroker(rabbitmq.url);
  t.after(() => broker.close(2_000));
  const { failure } = await redriveDeadLetters(broker, { queue });
  assert.equal(failure, undefined);
  const moved = await take("work");
  assert.deepEqual(await take("dead"), []);
  assert.deepEqual(new Set(moved), new Set(ids));
  assert.ok(moved.length <= ids.length + 2 * 100, `${moved.length - ids.length} copies`);
});

test("the topology of each service is held against the broker", async (t) => {
  const rabbitmq = await rabbitmqForTest(t);
  if (rabbitmq === undefined) return;
  interface Report {
    readonly exchange: { readonly name: string };
    readonly queues: readonly { readonly name: string; readonly standing: { readonly state: string } }[];
    readonly bindings: readonly { readonly routingKey: string }[];
  }
  const report = await json<Record<string, Report>>("topology", "--url", rabbitmq.url);
  assert.deepEqual(Object.keys(report), ["user", "book", "order"]);
  for (const [service, { queues: all, bindings }] of Object.entries(report)) {
    assert.ok(all.some(({ name }) => name.endsWith(".dead")));
    assert.ok(bindings.length > 0, service);
  }
  const one = await json<Record<string, Report>>("topology", "--service", "book", "--url", rabbitmq.url);
  assert.deepEqual(Object.keys(one), ["book"]);
});

test("a wrong call ends with 64, a failure with 1", async () => {
  assert.equal((await events("dead-letters", "bury")).code, 64);
  const { code, stdout, stderr } = await events("dead-letters", "list", "--queue", "q", "--url", "amqp://127.0.0.1:1");
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /^RabbitMQ at 127\.0\.0\.1:1: [^\n]+\n$/);
});
