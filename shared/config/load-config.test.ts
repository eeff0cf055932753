import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { type TestContext, test } from "node:test";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { ConfigError, type ConfigFault, duration, loadConfig, section } from "./index.ts";

const schema = section({
  server: section({ name: z.string().min(1), host: z.string().default("127.0.0.1"), port: z.int().min(0).max(65535) }),
  log: section({ level: z.enum(["debug", "info"]).default("info") }).prefault({}),
  grpc_clients: section({
    services: z.array(
      section({
        name: z.string(),
        address: z.string(),
        timeout: duration("5s"),
        retry: section({ max: z.int(), timeout: duration(), backoff: duration() }).optional(),
      }),
    ),
  }).prefault({ services: [] }),
  database: section({ url: z.url(), password: z.string(), enabled: z.boolean().default(true) }).optional(),
});
const free = z.record(z.string(), z.unknown());
const SERVER = "server: { name: user, port: 9001 }\n";

function fileWith(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "meridian-config-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "config.yaml");
  writeFileSync(file, text);
  return file;
}

function read(t: TestContext, text: string, env: Record<string, string> = {}): Record<string, unknown> {
  return loadConfig({ file: fileWith(t, text), schema: free, env });
}

function fault(
  t: TestContext,
  text: string,
  env: Record<string, string> = {},
  against: z.ZodType = schema,
): ConfigError {
  try {
    loadConfig({ file: fileWith(t, text), schema: against, env });
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "the configuration was taken" });
}

function paths(faults: readonly ConfigFault[]): string[] {
  return faults.map(({ path }) => path).sort();
}

test("the original's YAML loads as it is", (t) => {
  const text = `
server:
  name: user-service
  host: 0.0.0.0
  port: 9001
log:
  level: debug
grpc_clients:
  services:
    - name: book-service
      address: localhost:9002
      timeout: 5s
      retry:
        max: 3
        timeout: 10s
        backoff: 100ms
    - name: order-service
      address: localhost:9003
      timeout: 5s
`;
  assert.deepEqual(loadConfig({ file: fileWith(t, text), schema, env: {} }), {
    server: { name: "user-service", host: "0.0.0.0", port: 9001 },
    log: { level: "debug" },
    grpcClients: {
      services: [
        {
          name: "book-service",
          address: "localhost:9002",
          timeoutMs: 5_000,
          retry: { max: 3, timeoutMs: 10_000, backoffMs: 100 },
        },
        { name: "order-service", address: "localhost:9003", timeoutMs: 5_000 },
      ],
    },
  });
});

test("the result is frozen to its leaves", (t) => {
  const config = loadConfig({
    file: fileWith(t, `${SERVER}grpc_clients: { services: [{ name: a, address: b }] }`),
    schema,
    env: {},
  });
  const parts = [config, config.server, config.log, config.grpcClients.services, config.grpcClients.services[0]];
  for (const part of parts) assert.ok(Object.isFrozen(part));
});

test("CONFIG_FILE names another file, also relative to the working directory; a URL works too", (t) => {
  const one = fileWith(t, "from: one");
  const other = fileWith(t, "from: other");
  const load = (file: string | URL, env: Record<string, string>) => loadConfig({ file, schema: free, env })["from"];
  assert.equal(load(one, { CONFIG_FILE: other }), "other");
  assert.equal(load("/nowhere.yaml", { CONFIG_FILE: relative(process.cwd(), other) }), "other");
  assert.equal(load(one, { CONFIG_FILE: "" }), "one");
  assert.equal(load(pathToFileURL(one), {}), "one");
});

test("a file that is not there, or is a folder, is a ConfigError that names it", () => {
  for (const file of ["/nowhere/config.yaml", tmpdir()]) {
    assert.throws(
      () => loadConfig({ file, schema, env: {} }),
      (error) => error instanceof ConfigError && error.file === file && error.faults.length === 1,
    );
  }
});

test("a plain scalar takes the type of what is put in, a quoted one stays text", (t) => {
  const text = `
port: \${PORT:-9001}
on: \${ON:-true}
ratio: \${RATIO}
text: pre-\${PORT:-9001}
quoted: "\${PORT:-9001}"
single: '\${ON:-true}'
block: |-
  \${RATIO}
tagged: !!str \${PORT:-9001}
list: [ "\${PORT:-9001}" ]
`;
  assert.deepEqual(read(t, text, { RATIO: "0.5" }), {
    port: 9001,
    on: true,
    ratio: 0.5,
    text: "pre-9001",
    quoted: "9001",
    single: "true",
    block: "0.5",
    tagged: "9001",
    list: ["9001"],
  });
});

test("a variable that is set but empty counts as unset for a default, as in a shell", (t) => {
  assert.deepEqual(read(t, "a: ${A:-x}\nb: '${A}'\nc: ${A}\n", { A: "" }), { a: "x", b: "" });
});

test("defaults can hold references, URLs and colons, and may be empty", (t) => {
  const text = "a: ${A:-${B:-amqp://guest:guest@localhost:5672/}}\nb: '${A:-}'\nc: ${A:--}\n";
  assert.deepEqual(read(t, text), { a: "amqp://guest:guest@localhost:5672/", b: "", c: "-" });
  assert.equal(read(t, text, { B: "b" })["a"], "b");
});

test("a value from the environment cannot change the structure, nor is it looked into again", (t) => {
  const hostile = "x\nadmin: true\nlist: [1, 2] # ${HOME} {a: b}";
  assert.deepEqual(read(t, "a: ${X}\nb: '${X}'\n", { X: hostile }), { a: hostile, b: hostile });
});

test("$${ stands for a literal ${", (t) => {
  assert.deepEqual(read(t, "a: $${X}\nb: '$${X}-${X}'\nc: $5 {x}\n", { X: "v" }), {
    a: "${X}",
    b: "${X}-v",
    c: "$5 {x}",
  });
});

test("a reference that cannot be resolved is one fault at its path", (t) => {
  const text = "server:\n  name: ${NAME}\n  port: ${PORT\n  host: ${not a name}\n";
  const { faults } = fault(t, text);
  assert.deepEqual(paths(faults), ["server.host", "server.name", "server.port"]);
  assert.match(faults.find(({ path }) => path === "server.name")?.message ?? "", /NAME/);
});

test("every fault of a file is in one error: YAML's, the environment's and the schema's", (t) => {
  const text = `
server:
  name: \${NAME}
  prot: 9001
  port: many
  port: lots
log:
  level: loud
grpc_clients:
  services:
    - name: 5
      address: a
      timeout: 5
      retry: { max: 1.5, timeout: -1s }
    - *nobody
extra: 1
`;
  const error = fault(t, text);
  assert.deepEqual(paths(error.faults), [
    "extra",
    "grpc_clients.services[0].name",
    "grpc_clients.services[0].retry.backoff",
    "grpc_clients.services[0].retry.max",
    "grpc_clients.services[0].retry.timeout",
    "grpc_clients.services[0].timeout",
    "grpc_clients.services[1]",
    "log.level",
    "server.name",
    "server.port",
    "server.port",
    "server.prot",
  ]);
  const lines = error.message.split("\n");
  assert.equal(lines.length, error.faults.length + 1);
  assert.ok(lines[0]?.includes(error.file));
  for (const { path } of error.faults) assert.ok(error.message.includes(`\n  ${path}: `), path);
});

test("an unknown key is told with the key that was probably meant, and those that exist", (t) => {
  const { faults } = fault(t, "server: { nmae: a, Port: 1, name: b, port: 2, completelyElse: 3 }");
  const byPath = Object.fromEntries(faults.map(({ path, message }) => [path, message]));
  assert.match(byPath["server.nmae"] ?? "", /mean name\?.*name, host, port/);
  assert.match(byPath["server.Port"] ?? "", /mean port\?/);
  assert.doesNotMatch(byPath["server.completelyElse"] ?? "", /mean/);
});

test("a duplicate key is told with both lines", (t) => {
  const { faults } = fault(t, "server:\n  name: a\n  port: 1\n  name: b\n");
  assert.deepEqual(paths(faults), ["server.name"]);
  assert.match(faults[0]?.message ?? "", /line 4.*line 2/);
});

test("broken YAML is told with its line, and what it hides is not called missing", (t) => {
  const { faults } = fault(t, 'log:\n  level: loud\nserver: "unclosed\n  name: a\n');
  assert.ok(faults.some(({ message }) => /line \d+/.test(message)));
  assert.ok(faults.some(({ path }) => path === "log.level"));
  assert.ok(faults.every(({ message }) => !message.includes("missing")));
});

test("two documents, an unknown tag and a list at the top are faults", (t) => {
  for (const text of ["a: 1\n---\nb: 2\n", "a: !secret x\n"]) assert.ok(fault(t, text, {}, free).faults.length > 0);
  assert.deepEqual(paths(fault(t, "- a\n").faults), [""]);
});

test("an empty file and a section without content count as left out", (t) => {
  assert.deepEqual(paths(fault(t, "").faults), ["server"]);
  assert.deepEqual(paths(fault(t, "# nothing\n").faults), ["server"]);
  const config = loadConfig({ file: fileWith(t, `${SERVER}log:\ndatabase: ~\n`), schema, env: {} });
  assert.deepEqual(config.log, { level: "info" });
  assert.equal("database" in config, false);
});

test("anchors, aliases and merge keys work", (t) => {
  const text = "base: &base { a: 1, b: '${X}' }\nlist: [*base]\nmerged:\n  <<: *base\n  a: 2\n";
  assert.deepEqual(read(t, text, { X: "x" }), {
    base: { a: 1, b: "x" },
    list: [{ a: 1, b: "x" }],
    merged: { a: 2, b: "x" },
  });
});

test("aliases that expand without bound, or into themselves, are faults", (t) => {
  const levels = Array.from({ length: 12 }, (_, i) => `l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(", ")}]`);
  assert.equal(fault(t, `l0: &l0 [x]\n${levels.join("\n")}\n`, {}, free).faults.length, 1);
  assert.deepEqual(paths(fault(t, "a: &a { b: [*a] }\n", {}, free).faults), ["a.b[0]"]);
});

test("keys such as __proto__ are only keys", (t) => {
  assert.deepEqual(paths(fault(t, `${SERVER}__proto__: { log: 1 }\nconstructor: 1\n`).faults), [
    "__proto__",
    "constructor",
  ]);
  assert.equal(({} as Record<string, unknown>)["log"], undefined);
});

test("the value of a key that may hold a secret is never shown", (t) => {
  const text = `${SERVER}database:\n  url: \${URL}\n  password: \${PASSWORD}\n  enabled: "amqp://u:hunter2@h"\n`;
  const error = fault(t, text, { URL: "hunter2", PASSWORD: "481516" });
  assert.deepEqual(paths(error.faults), ["database.enabled", "database.password", "database.url"]);
  assert.doesNotMatch(error.message, /hunter2|481516/);
  assert.match(error.message, /quotes/);
});

test("nor is what cannot be read as YAML", (t) => {
  const values = ["'a' hunter2", "!hunter2 x", "!hunter2", "*hunter2", "@hunter2", "%hunter2", '"hunter2', "[hunter2"];
  for (const value of values) {
    const { message } = fault(t, `password: ${value}\nkey: 1\n`, {}, section({ key: z.string() }));
    assert.doesNotMatch(message, /hunter2/, value);
  }
});

test("a reference that breaks a [ ] or { } is told as such, once", (t) => {
  const { faults } = fault(t, "a: [1, ${X}]\n", { X: "x" }, free);
  assert.equal(faults.length, 1);
  assert.match(faults[0]?.message ?? "", /quotes/);
});

test("in a union the faults are those of the form that came nearest", (t) => {
  const either = section({
    target: z.union([z.string(), section({ kind: z.literal("dns"), host: z.string(), port: z.int() })]),
  });
  assert.deepEqual(paths(fault(t, "target: { kind: dns, host: 1 }", {}, either).faults), [
    "target.host",
    "target.port",
  ]);
  assert.deepEqual(paths(fault(t, "target: 5", {}, either).faults), ["target"]);
});
