import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { type TestContext, test } from "node:test";
import { z } from "zod";
import { until } from "#shared/testing";
import { ConfigError, configFile, loadConfig, section, type WatchConfigOptions, watchConfig } from "./index.ts";

const schema = section({ port: z.int(), names: z.array(z.string()).default([]) });
type Config = z.output<typeof schema>;

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "meridian-watch-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

function fileWith(t: TestContext, text: string): string {
  const file = join(folderOf(t), "config.yaml");
  writeFileSync(file, text);
  return file;
}

/** As an editor or a deployment writes: whole or not at all. */
function replace(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

/** What a watch has told, and how often it has read the file. */
function watched(t: TestContext, file: string, options: Partial<WatchConfigOptions<Config>> = {}) {
  const ports: number[] = [];
  const errors: unknown[] = [];
  const told = { ports, errors, loads: 0 };
  const read = options.load ?? (() => loadConfig({ file, schema, env: {} }));
  const watch = watchConfig<Config>({
    file,
    intervalMs: 5,
    onChange: ({ port }) => ports.push(port),
    onError: (error) => errors.push(error),
    ...options,
    load() {
      told.loads++;
      return read();
    },
  });
  t.after(() => watch.stop());
  return Object.assign(told, { stop: () => watch.stop() });
}

test("a changed file is handed on, valid and frozen", async (t) => {
  const file = fileWith(t, "port: 1");
  const configs: Config[] = [];
  watched(t, file, { onChange: (config) => configs.push(config) });
  writeFileSync(file, "{ port: 2, names: [a] }");
  await until("the change", () => configs.length > 0);
  assert.deepEqual(configs, [{ port: 2, names: ["a"] }]);
  assert.ok(Object.isFrozen(configs[0]?.names));
});

test("each change is handed on once", async (t) => {
  const file = fileWith(t, "port: 0");
  const told = watched(t, file);
  for (let port = 1; port <= 5; port++) {
    replace(file, `port: ${port}`);
    await until("the change", () => told.ports.length >= port);
  }
  assert.deepEqual(told.ports, [1, 2, 3, 4, 5]);
  assert.deepEqual(told.errors, []);
});

test("a file that is written again as it was, or only in other words, changes nothing", async (t) => {
  const file = fileWith(t, "port: 1");
  const told = watched(t, file);
  let loads = 3;
  for (const text of ["port: 1", "# a remark\nport: 1\n", "{ names: [], port: 1 }"]) {
    await until("the version to be settled", () => told.loads === loads);
    replace(file, text);
    loads += 2;
  }
  await until("the last to be read", () => told.loads === loads);
  replace(file, "port: 2");
  await until("the change", () => told.ports.length > 0);
  assert.deepEqual(told.ports, [2]);
});

test("a file that stays is read at the start and then no more", async (t) => {
  const file = fileWith(t, "port: 1");
  const told = watched(t, file);
  // At once, at the first look, and to be sure at the second.
  await until("the second look", () => told.loads === 3);
  const other = watched(t, fileWith(t, "port: 1"), { intervalMs: 1 });
  await until("time to pass", () => other.loads === 3);
  assert.equal(told.loads, 3);
});

test("a faulty file is told once and the old configuration stays, until it is mended", async (t) => {
  const file = fileWith(t, "port: 1");
  const told = watched(t, file);
  await until("the first version to be settled", () => told.loads === 3);
  replace(file, "{ port: many, nmaes: [] }");
  await until("the fault to be read twice", () => told.loads === 5);
  assert.equal(told.errors.length, 1);
  const [error] = told.errors;
  assert.ok(error instanceof ConfigError);
  assert.equal(error.faults.length, 2);
  replace(file, "port: [");
  await until("the other fault", () => told.errors.length === 2);
  assert.deepEqual(told.ports, []);
  replace(file, "port: 2");
  await until("the change", () => told.ports.length > 0);
  assert.deepEqual(told.ports, [2]);
  assert.equal(told.errors.length, 2);
});

test("a file that goes is told once, and is no change when it comes back as it was", async (t) => {
  const file = fileWith(t, "port: 1");
  const told = watched(t, file);
  rmSync(file);
  await until("the fault", () => told.errors.length > 0);
  const { loads } = told;
  writeFileSync(file, "port: 1");
  await until("the file to be read", () => told.loads > loads + 1);
  replace(file, "port: 3");
  await until("the change", () => told.ports.length > 0);
  assert.deepEqual(told.ports, [3]);
  assert.equal(told.errors.length, 1);
});

test("a link that is swapped, as Kubernetes mounts a new version, is a change", async (t) => {
  const folder = folderOf(t);
  for (const [name, port] of [
    ["..one", 1],
    ["..two", 2],
  ] as const) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, "config.yaml"), `port: ${port}`);
    // Of one size and one time: only the file behind the link differs.
    utimesSync(join(folder, name, "config.yaml"), 1_000, 1_000);
  }
  symlinkSync("..one", join(folder, "..data"));
  symlinkSync(join("..data", "config.yaml"), join(folder, "config.yaml"));
  const told = watched(t, join(folder, "config.yaml"));
  await until("the first version to be settled", () => told.loads === 3);
  symlinkSync("..two", join(folder, "..data_tmp"));
  renameSync(join(folder, "..data_tmp"), join(folder, "..data"));
  await until("the change", () => told.ports.length > 0);
  assert.deepEqual(told.ports, [2]);
});

test("a second write that the file's time does not show is found too", async (t) => {
  const file = fileWith(t, "port: 1");
  const write = (port: number) => {
    writeFileSync(file, `port: ${port}`);
    utimesSync(file, 2_000, 2_000);
  };
  const told = watched(t, file, {
    load() {
      const config = loadConfig({ file, schema, env: {} });
      if (config.port === 2) write(3);
      return config;
    },
  });
  await until("the first version to be settled", () => told.loads === 3);
  const { ino } = statSync(file);
  write(2);
  await until("the second change", () => told.ports.includes(3));
  assert.equal(statSync(file).ino, ino);
  assert.equal(told.ports.at(-1), 3);
});

test("a change between the start of the service and that of the watch is found", async (t) => {
  const file = fileWith(t, "port: 1");
  const current = loadConfig({ file, schema, env: {} });
  replace(file, "port: 2");
  const told = watched(t, file, { current });
  await until("the change", () => told.ports.length > 0);
  assert.deepEqual(told.ports, [2]);
});

test("a file that is faulty when the watch begins is told, and handed on when it is mended", async (t) => {
  const file = fileWith(t, "port: many");
  const told = watched(t, file);
  await until("the fault", () => told.errors.length > 0);
  replace(file, "port: 1");
  await until("the change", () => told.ports.length > 0);
  assert.deepEqual([told.ports, told.errors.length], [[1], 1]);
});

test("a callback that throws does not end the watch", async (t) => {
  const file = fileWith(t, "port: 1");
  const warned: string[] = [];
  const onWarning = ({ message }: Error) => warned.push(message);
  process.on("warning", onWarning);
  t.after(() => process.off("warning", onWarning));
  const seen: number[] = [];
  watched(t, file, {
    onChange({ port }) {
      seen.push(port);
      throw new Error("cannot be put in force");
    },
    onError(error) {
      throw new Error("cannot be logged", { cause: error });
    },
  });
  for (const port of [2, 3]) {
    replace(file, `port: ${port}`);
    await until("the change", () => seen.at(-1) === port);
  }
  await until("the warnings", () => warned.length >= 2);
  assert.deepEqual(warned, ["cannot be logged", "cannot be logged"]);
});

test("after a stop nothing is told", async (t) => {
  const file = fileWith(t, "port: 1");
  const stopped = watched(t, file);
  const atOnce = watched(t, file);
  atOnce.stop();
  await until("the first version to be settled", () => stopped.loads === 3);
  stopped.stop();
  const other = watched(t, file);
  replace(file, "port: 2");
  await until("another to be told", () => other.ports.length > 0 && other.loads >= 3);
  assert.deepEqual([stopped.ports, atOnce.ports], [[], []]);
  assert.equal(atOnce.loads, 1);
});

test("a watch can be stopped by what it calls", async (t) => {
  const file = fileWith(t, "port: 1");
  const told = watched(t, file, { onChange: () => told.stop() });
  replace(file, "port: 2");
  await until("the change", () => told.loads >= 2);
  const { loads } = told;
  const other = watched(t, file);
  replace(file, "port: 3");
  await until("another to be told", () => other.ports.length > 0);
  assert.equal(told.loads, loads);
});

test("a watch keeps no process alive", async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
  const before = timers();
  const told = watched(t, fileWith(t, "port: 1"), { intervalMs: 60_000 });
  await until("the first look", () => told.loads === 2);
  assert.equal(timers(), before);
});

test("a configuration knows the file that it was read from", (t) => {
  const one = fileWith(t, "port: 1");
  const other = fileWith(t, "port: 2");
  const fileOf = (file: string, env: Record<string, string>) => configFile(loadConfig({ file, schema, env }));
  assert.equal(fileOf(one, {}), one);
  assert.equal(fileOf(relative("", one), {}), one);
  assert.equal(fileOf(one, { CONFIG_FILE: other }), other);
  assert.equal(configFile({ port: 1 }), undefined);
});
