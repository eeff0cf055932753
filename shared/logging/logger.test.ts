import assert from "node:assert/strict";
import { test } from "node:test";
import { type CallContext, runInCall } from "#shared/call-context";
import { createLogger, type LogConfig, logSection } from "./index.ts";

const JSON_FORMAT: LogConfig = { level: "info", format: "json" };

function setUp(config: LogConfig = JSON_FORMAT) {
  const written: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  const logger = createLogger({ name: "user-service", config, destination });
  return { logger, written, lines: () => written.map((line): Record<string, unknown> => JSON.parse(line)) };
}

test("the log section can be left out: info and json", () => {
  assert.deepEqual(logSection.parse(undefined), JSON_FORMAT);
  assert.deepEqual(logSection.parse({ level: "debug", format: "auto" }), { level: "debug", format: "auto" });
  assert.equal(logSection.safeParse({ level: "loud" }).success, false);
});

test("a line has its level by name, ISO time, service and fields", () => {
  const { logger, lines } = setUp();
  logger.child({ component: "database" }).warn({ ms: 5 }, "slow");
  const [{ time, ...line } = {}] = lines();
  assert.deepEqual(line, { level: "warn", service: "user-service", component: "database", ms: 5, msg: "slow" });
  assert.equal(new Date(String(time)).toISOString(), time);
});

test("only what reaches the level is written", () => {
  const { logger, lines } = setUp({ level: "warn", format: "json" });
  logger.info("no");
  logger.error("yes");
  assert.deepEqual(
    lines().map(({ msg }) => msg),
    ["yes"],
  );
});

test("inside a call each line carries the trace and request ids, outside none does", async () => {
  const { logger, lines } = setUp();
  const call = { trace: { traceId: "4bf92f3577b34da6a3ce929d0e0e4736" }, requestId: "r-1" } as CallContext;
  const child = logger.child({});
  await runInCall(call, async () => {
    logger.info("sync");
    await new Promise((resolve) => setImmediate(resolve));
    child.info({ a: 1 }, "later");
  });
  logger.info("outside");
  assert.deepEqual(
    lines().map(({ trace_id, request_id }) => [trace_id, request_id]),
    [
      ["4bf92f3577b34da6a3ce929d0e0e4736", "r-1"],
      ["4bf92f3577b34da6a3ce929d0e0e4736", "r-1"],
      [undefined, undefined],
    ],
  );
});

test("secrets are taken out of fields, bindings, messages, errors and their stacks", () => {
  const { logger, written } = setUp();
  const err = new Error("connect amqp://u:hunter2@h", { cause: new Error("token=hunter2 refused") });
  logger.child({ password: "hunter2" }).error({ err, req: { headers: { cookie: "hunter2" } } }, "Bearer hunter2");
  logger.error(err);
  logger.info("%s %o", "postgres://u:hunter2@h", { secret: "hunter2" });
  assert.equal(written.length, 3);
  assert.doesNotMatch(written.slice(0, 2).join(""), /hunter2/);
  assert.doesNotMatch(written[2]?.split(" ")[0] ?? "", /hunter2/);
});

test("an error comes with its type, code, and the messages and stacks of its causes", () => {
  const { logger, lines } = setUp();
  const cause = Object.assign(new TypeError("refused"), { code: "ECONNREFUSED" });
  logger.error(
    { err: Object.assign(new Error("cannot sell", { cause }), { code: 14, empty: {}, on: () => {} }) },
    "no",
  );
  const { err } = lines()[0] as { err: Record<string, unknown> };
  assert.equal(err["type"], "Error");
  assert.equal(err["message"], "cannot sell: refused");
  assert.equal(err["code"], 14);
  assert.match(String(err["stack"]), /Error: cannot sell\n[\s\S]*\ncaused by: TypeError: refused\n/);
  assert.deepEqual(Object.keys(err), ["type", "message", "stack", "code"]);
});

test("causes that are no errors, circles and AggregateErrors are told too", () => {
  const { logger, lines } = setUp();
  const circle = new Error("a");
  circle.cause = new Error("b", { cause: circle });
  const refused = new AggregateError([new Error("connect ::1"), new Error("connect 127.0.0.1")]);
  logger.error({ err: new Error("x", { cause: "plain text" }) });
  logger.error({ err: new Error("x", { cause: { status: 503 } }) });
  logger.error({ err: circle });
  logger.error({ err: new Error("x", { cause: refused }) });
  logger.error({ err: Object.freeze(new Error("frozen")) });
  logger.error({ err: "not an error" });
  const errors = lines().map(({ err }) => err);
  assert.deepEqual(
    errors.map((err) => (err as { message?: string }).message ?? err),
    ["x: plain text", "x: { status: 503 }", "a: b", "x: connect ::1; connect 127.0.0.1", "frozen", "not an error"],
  );
});

test("what JSON cannot say does not break a line", () => {
  const { logger, lines } = setUp();
  const loop: Record<string, unknown> = { id: 5n };
  loop["self"] = loop;
  logger.info({ loop, created: 1_700_000_000n, bytes: new Uint8Array(2), nothing: undefined }, "odd");
  assert.equal(lines()[0]?.["msg"], "odd");
});

test("pretty makes one readable line of each, and redacts too", () => {
  const { logger, written } = setUp({ level: "info", format: "pretty" });
  logger.info({ method: "user.v1.UserService/SayHello", url: "amqp://u:hunter2@h" }, "call");
  assert.equal(written.length, 1);
  const [line = ""] = written;
  assert.match(line, /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: \[user-service\] call \{.*SayHello.*\}\n$/);
  assert.doesNotMatch(line, /hunter2/);
});

test("auto writes JSON where there is no terminal", () => {
  const { logger, lines } = setUp({ level: "info", format: "auto" });
  logger.info("call");
  assert.equal(lines()[0]?.["msg"], "call");
});

test("flush reaches the destination", () => {
  for (const format of ["json", "pretty"] as const) {
    let flushed = 0;
    const destination = {
      write: () => {},
      flush: (done?: () => void) => {
        flushed++;
        done?.();
      },
    };
    const logger = createLogger({ name: "a", config: { level: "info", format }, destination });
    logger.flush();
    let done = 0;
    logger.flush(() => done++);
    assert.deepEqual([flushed, done], [2, 1]);
  }
});
