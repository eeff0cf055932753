import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { file_testing_v1_testing_events } from "#gen/testing/v1/testing_events_pb.ts";
import { ConfigError } from "#shared/config";
import { rabbitmqSection } from "#shared/event-bus";
import { deadUrl, rabbitmqForTest } from "#shared/testing";
import { runEventsCommand } from "./command.ts";
import type { EventsSetup } from "./setup.ts";
import { deadLetter, type QueueForTest, queueForTest } from "./test-support.ts";

const nowhere: EventsSetup = {
  services: {
    user: { rabbitmq: () => rabbitmqSection.parse({ exchange: "e", queue: "user_service_queue" }) },
    gateway: { rabbitmq: () => undefined },
  },
  files: [file_testing_v1_testing_events],
  protoFolder: "/",
};

function setupOf(one: QueueForTest): EventsSetup {
  return { ...nowhere, services: { user: { rabbitmq: () => one.config } } };
}

const run = (line: string, env = {}, setup = nowhere) => runEventsCommand(line.split(" ").filter(Boolean), env, setup);

describe("a wrong call ends with 64, and names the help", () => {
  const wrong = [
    "",
    "nonsense",
    "toString",
    "dead-letters",
    "dead-letters bury --queue q",
    "dead-letters list",
    "dead-letters list --queue",
    "dead-letters list --queue q --limit 0",
    "dead-letters list --queue q --limit many",
    "dead-letters list --queue q --id x",
    "dead-letters list --queue q --colour",
    "dead-letters list q",
    "dead-letters show --queue q",
    "dead-letters redrive",
    "dead-letters redrive --queue q --id x --limit 3",
    "dead-letters drop --queue q",
    "dead-letters drop --queue q --id x --all",
    "topology --service nobody",
    "topology --queue q",
    "catalogue --url amqp://localhost",
  ];
  for (const line of wrong) {
    test(`events ${line}`, async () => {
      const { code, stdout, stderr } = await run(line, { RABBITMQ_URL: "amqp://127.0.0.1:1" });
      assert.equal(code, 64, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^.+\nusage: npm run events -- --help\n$/);
    });
  }
});

test("--help ends with 0, and the usage goes to stdout", async () => {
  for (const line of ["--help", "dead-letters list -h"]) {
    const { code, stdout, stderr } = await run(line);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^usage: npm run events/);
  }
});

describe("a failure ends with 1, and a line that says why", () => {
  async function failure(line: string, env?: Readonly<Record<string, string>>, setup?: EventsSetup): Promise<string> {
    const { code, stdout, stderr } = await run(line, env, setup);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /^[^\n]+\n$/);
    return stderr;
  }

  test("when the broker is away", async (t) => {
    const { host } = new URL(await deadUrl(t));
    const said = await failure(`dead-letters list --queue q --url amqp://guest:secret@${host}`);
    assert.ok(said.includes(host) && !said.includes("secret"), said);
  });

  test("when the broker refuses the login", async (t) => {
    const rabbitmq = await rabbitmqForTest(t);
    if (rabbitmq === undefined) return;
    const url = new URL(rabbitmq.url);
    url.password = "wrong";
    assert.match(await failure(`dead-letters list --queue q --url ${url}`), /ACCESS_REFUSED/);
  });

  test("when the URL is none", async () => {
    for (const url of ["http://localhost", "amqp://[", "localhost"]) {
      await failure("dead-letters list --queue q", { RABBITMQ_URL: url });
    }
  });

  test("when nobody says where the broker is", async () => {
    for (const queue of ["user_service_queue", "other"]) {
      assert.match(await failure(`dead-letters list --queue ${queue}`), /RABBITMQ_URL/);
    }
    assert.match(await failure("topology"), /RABBITMQ_URL/);
  });

  test("when there is no such queue, or no such event", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    const options = `--queue ${one.queue} --url ${one.url}`;
    for (const what of ["list", "redrive", "show --id a", "drop --all"])
      await failure(`dead-letters ${what} ${options}`);
    await one.declare();
    for (const what of ["redrive", "show", "drop"]) {
      assert.match(await failure(`dead-letters ${what} --id abc ${options}`), /abc/);
    }
  });

  test("when the protos cannot be built", async () => {
    assert.match(await failure("catalogue"), /npm ci/);
  });
});

test("a faulty configuration ends with 1, and with its faults", async () => {
  const rabbitmq = () => {
    throw new ConfigError("config.yaml", [{ path: "rabbitmq.queue", message: "missing" }]);
  };
  const { code, stderr } = await run("topology", {}, { ...nowhere, services: { user: { rabbitmq } } });
  assert.equal(code, 1);
  assert.match(stderr, /rabbitmq\.queue: missing/);
});

test("what was not done is told, and ends with 1", async (t) => {
  const one = await queueForTest(t, await rabbitmqForTest(t), { max_length: 1 });
  if (one === undefined) return;
  await one.declare();
  await one.fill();
  await one.put(one.deadLetterQueue, deadLetter("a"));
  const line = `dead-letters redrive --queue ${one.queue} --url ${one.url}`;
  for (const json of ["", "--json"]) {
    const { code, stdout, stderr } = await run(`${line} ${json}`);
    assert.equal(code, 1);
    if (json) assert.deepEqual(JSON.parse(stdout), { queue: one.queue, redriven: 0, of: 1 });
    else assert.match(stdout, /^0 of 1 /);
    assert.match(stderr, /^[^\n]+\n$/);
  }
});

describe("the broker", () => {
  test("is --url's before RABBITMQ_URL's, and that before the configuration's", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const dead = `amqp://${new URL(await deadUrl(t)).host}`;
    const list = `dead-letters list --queue ${one.queue}`;
    const codes = [
      await run(`${list} --url ${one.url}`, { RABBITMQ_URL: dead }, setupOf(one)),
      await run(list, { RABBITMQ_URL: dead }, setupOf(one)),
      await run(list, { RABBITMQ_URL: one.url }),
      await run(list, { RABBITMQ_URL: "" }, setupOf(one)),
      await run("topology", {}, setupOf(one)),
    ].map(({ code }) => code);
    assert.deepEqual(codes, [0, 1, 0, 0, 0]);
  });
});

describe("for people", () => {
  test("list is a table without control characters, and says how many more there are", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const error = { "x-dead-letter-error": "Error: \u001b[2J\nred" };
    for (const id of ["a", "b"]) await one.put(one.deadLetterQueue, deadLetter(id, { headers: error }));
    const { stdout } = await run(`dead-letters list --queue ${one.queue} --limit 1 --url ${one.url}`);
    const [titles, row, more] = stdout.trimEnd().split("\n");
    assert.match(titles!, /^ID +TYPE +REASON +ATTEMPTS +DEAD SINCE +ROUTING KEY +ERROR$/);
    assert.match(
      row!,
      /^a +testing\.v1\.Registered +attempts_exhausted +6 +2026-.+Z +testing\.registered +Error: +\[2J red$/,
    );
    assert.match(more!, /\b1 more\b/);
  });

  test("show ends with the message", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    // A username of "Ada" and C1's CSI, which begins commands to a terminal.
    await one.put(one.deadLetterQueue, deadLetter("a"), Buffer.of(18, 5, 65, 100, 97, 0xc2, 0x9b));
    const { stdout } = await run(`dead-letters show --queue ${one.queue} --id a --url ${one.url}`);
    assert.match(stdout, /^id +a$/m);
    assert.match(stdout, /^ {2}x-origin-exchange: bookshop$/m);
    assert.ok(stdout.endsWith('message (testing.v1.Registered)\n{\n  "username": "Ada\\u009b"\n}\n'), stdout);
  });

  test("topology says what it cannot know", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    const { stdout } = await run("topology", {}, { ...setupOf(one) });
    assert.match(stdout, new RegExp(`^${one.queue} +work +missing`, "m"));
    assert.match(stdout, /AMQP cannot read/);
  });
});

test("one service's own file and queue in the environment count for it alone", async (t) => {
  const rabbitmq = await rabbitmqForTest(t);
  if (rabbitmq === undefined) return;
  const seen: unknown[] = [];
  const services = {
    user: {
      rabbitmq(env: Readonly<Record<string, string | undefined>>) {
        seen.push([env["CONFIG_FILE"], env["RABBITMQ_QUEUE"]]);
        return undefined;
      },
    },
  };
  const env = { CONFIG_FILE: "f", RABBITMQ_QUEUE: "q", RABBITMQ_URL: rabbitmq.url };
  await run("topology", env, { ...nowhere, services });
  await run("topology --service user", env, { ...nowhere, services });
  assert.deepEqual(seen, [
    [undefined, undefined],
    ["f", "q"],
  ]);
});
