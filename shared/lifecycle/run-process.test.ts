import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";

const moduleUrl = (name: string) => JSON.stringify(new URL(`../${name}/index.ts`, import.meta.url).href);

/** A whole service in a process of its own: what it does is `body`, which sees `lifecycle` and `logger`; `app` is more of its app. */
function startService(
  t: TestContext,
  { body = "", app = "", config = "log: {}\n" }: { body?: string; app?: string; config?: string },
) {
  const folder = mkdtempSync(join(tmpdir(), "meridian-run-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "config.yaml");
  writeFileSync(file, config);
  const main = join(folder, "main.ts");
  writeFileSync(
    main,
    `
import { loadConfig, section } from ${moduleUrl("config")};
import { createLifecycle, run } from ${moduleUrl("lifecycle")};
import { createLogger, logSection } from ${moduleUrl("logging")};
const schema = section({ log: logSection });
await run({
  process,
  load: (env) => loadConfig({ file: ${JSON.stringify(file)}, schema, env }),
  create: (config) => {
    const logger = createLogger({ name: "test", config: config.log });
    const lifecycle = createLifecycle({ logger });
    ${body}
    lifecycle.add({ name: "last", start: () => logger.info("up") });
    return { logger, start: () => lifecycle.start(), stop: () => lifecycle.stop(), ${app} };
  },
});
`,
  );
  const child = spawn(process.execPath, [main], { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  return { child, file, lines: collect(child, "stdout"), errors: collect(child, "stderr"), exited: exitOf(child) };
}

function collect(child: ChildProcess, stream: "stdout" | "stderr") {
  const seen: string[] = [];
  const reader = createInterface({ input: child[stream]! });
  reader.on("line", (line) => seen.push(line));
  const closed = once(reader, "close");
  return {
    all: async () => {
      await closed;
      return seen;
    },
    async until(text: string): Promise<void> {
      while (!seen.some((line) => line.includes(text))) await Promise.race([once(reader, "line"), closedTooEarly()]);
      async function closedTooEarly(): Promise<never> {
        await closed;
        throw new Error(`${stream} ended without ${text}: ${seen.join("\n")}`);
      }
    },
  };
}

async function exitOf(child: ChildProcess): Promise<number | string> {
  const [code, signal] = await once(child, "exit");
  return code ?? signal;
}

const LIMIT = { timeout: 30_000 };

test(
  "a process without a socket or a timer runs until SIGTERM, stops, and its last lines are written",
  LIMIT,
  async (t) => {
    const stop = 'for (let i = 0; i < 1000; i++) logger.info({ i }, "closing")';
    const service = startService(t, { body: `lifecycle.add({ name: "first", stop: () => { ${stop} } });` });
    await service.lines.until('"up"');
    service.child.kill("SIGTERM");
    assert.equal(await service.exited, 0);
    const lines = await service.lines.all();
    assert.equal(lines.filter((line) => line.includes('"closing"')).length, 1000);
    assert.ok(lines.at(-1)?.includes('"stopped"'));
  },
);

test("a second signal ends a process that is stuck in its stop", LIMIT, async (t) => {
  const service = startService(t, { body: 'lifecycle.add({ name: "stuck", stop: () => new Promise(() => {}) });' });
  await service.lines.until('"up"');
  service.child.kill("SIGTERM");
  await service.lines.until("SIGTERM");
  service.child.kill("SIGINT");
  assert.equal(await service.exited, 130);
});

test("on SIGHUP a process reads its configuration again and goes on, and its file is watched", LIMIT, async (t) => {
  const service = startService(t, { app: 'reconfigure: ({ log }) => logger.info("now " + log.level)' });
  await service.lines.until('"up"');
  writeFileSync(service.file, "log: { level: loud }\n");
  service.child.kill("SIGHUP");
  await service.lines.until("log.level");
  writeFileSync(service.file, "log: { level: warn }\n");
  await service.lines.until("now warn");
  service.child.kill("SIGTERM");
  assert.equal(await service.exited, 0);
});

test("a bad configuration ends the process with 78 and every fault on stderr", LIMIT, async (t) => {
  const service = startService(t, { config: "log: { level: loud }\nextra: 1\n" });
  assert.equal(await service.exited, 78);
  const text = (await service.errors.all()).join("\n");
  assert.match(text, /log\.level/);
  assert.match(text, /extra/);
  assert.deepEqual(await service.lines.all(), []);
});

test("a failing start ends the process with 1 and a fatal line that has the cause", LIMIT, async (t) => {
  const service = startService(t, {
    body: 'lifecycle.add({ name: "database", start: () => Promise.reject(new Error("amqp://u:hunter2@h is away")) });',
  });
  assert.equal(await service.exited, 1);
  const line = JSON.parse((await service.lines.all())[0] ?? "");
  assert.equal(line.level, "fatal");
  assert.match(line.err.message, /database.*: amqp:\/\/\[redacted\]@h is away/);
});

test("an error that nobody catches is logged with its cause, the app stopped, the code 1", LIMIT, async (t) => {
  const bug = 'throw new Error("bug", { cause: new Error("why") })';
  for (const crash of [`setImmediate(() => { ${bug}; })`, `void (async () => { ${bug}; })()`]) {
    const service = startService(t, {
      body: `
lifecycle.add({ name: "first", stop: () => logger.info("closed") });
lifecycle.add({ name: "crash", start: () => { ${crash}; } });`,
    });
    assert.equal(await service.exited, 1);
    const lines = (await service.lines.all()).map((line) => JSON.parse(line));
    const fatal = lines.find(({ level }) => level === "fatal");
    assert.equal(fatal?.err.message, "bug: why");
    assert.ok(lines.some(({ msg }) => msg === "closed"));
  }
});
