// README.md does what it says: its steps are followed, its commands and paths are there.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { until } from "#shared/testing";
import { blocksOf, call, curlIn, type FencedBlock, readme, sectionOf } from "./support/readme.ts";
import { copyRepository, type RepositoryCopy } from "./support/repository-copy.ts";
import { killPrograms, repository, startService } from "./support/service-process.ts";

after(killPrograms);

test('"Add a service", followed as it is written, ends with the answer that it shows', async (t) => {
  const copy = await copyRepository(t);
  const blocks = blocksOf(sectionOf("Add a service"));
  const files = blocks.filter(({ file }) => file !== undefined);
  assert.ok(files.length >= 6, "files to write");
  for (const { file, text } of files) await copy.write(file!, text);
  await copy.edit("services/gateway/app.ts", exposing(block(blocks, "ts")));
  await copy.edit("services/gateway/config.yaml", configuring(block(blocks, "yaml")));

  const generated = await copy.run("npm", "run", "generate");
  assert.equal(generated.code, 0, generated.output);
  assert.ok(existsSync(join(copy.folder, "gen/shipping/v1/shipping_pb.ts")));
  await checks(copy);

  const shipping = await startService("shipping", { SERVER_PORT: "0" }, copy.folder);
  const address = new URL(shipping.url).host;
  const gateway = await startService("gateway", { SERVER_PORT: "0", SHIPPING_SERVICE_ADDRESS: address }, copy.folder);
  // Its gateway listens on 8080.
  const calling = { ...curlIn(block(blocks, "sh")), url: gateway.url };
  await until("shipping-service to answer", async () => !(await call(calling)).includes("unavailable"));
  assert.equal(await call(calling), block(blocks, "json").trim());
  const heavy = await call({ ...calling, data: '{"weightGrams":30001}' });
  assert.equal((JSON.parse(heavy) as { code: string }).code, "failed_precondition");
  assert.deepEqual(await Promise.all([gateway.end(), shipping.end()]), [0, 0]);
});

describe("README.md names", () => {
  test("scripts that package.json has", async () => {
    const { scripts } = await manifest();
    const named = [...readme.matchAll(/\bnpm (?:run ([a-z:]+)|(test)\b)/g)].map(([, name, test = ""]) => name ?? test);
    assert.ok(named.length > 5);
    for (const name of named) {
      // One stands for all four.
      const all = ["user", "book", "order", "gateway"].map((service) => name.replace(/:user$/, `:${service}`));
      for (const one of new Set(all)) assert.ok(scripts[one], `npm run ${one}`);
    }
  });

  test("paths that exist", () => {
    // What begins like something at the top of the repository, outside of code blocks and of the steps that make it.
    const text = readme.replace(sectionOf("Add a service"), "").replaceAll(/^ *```.*?^ *```$/gms, "");
    const spans = [...text.matchAll(/`([^`\n]+)`/g)].map(([, span = ""]) => span);
    const paths = spans.filter((span) => /^(proto|gen|shared|services|test|bench|\.ci)\/[\w./-]*$/.test(span));
    const links = [...text.matchAll(/\]\(([\w./-]+)\)/g)].map(([, link = ""]) => link);
    assert.ok(paths.length > 3 && links.length > 0);
    for (const path of [...paths, ...links]) assert.ok(existsSync(join(repository, path)), path);
  });

  test("every file of a service, in the table of its files", async () => {
    const table = sectionOf("The house").split("| `services/user/` | |")[1] ?? "";
    const files = [...table.matchAll(/`([\w-]+\.(?:ts|yaml))`/g)].map(([, file = ""]) => file);
    assert.ok(files.length > 6);
    for (const file of files) assert.ok(existsSync(join(repository, "services/user", file)), file);
  });

  test("every dependency, in the table of dependencies", async () => {
    const { dependencies, devDependencies } = await manifest();
    const table = sectionOf("Dependencies");
    for (const name of [...Object.keys(dependencies), ...Object.keys(devDependencies)]) {
      if (name.startsWith("@types/")) continue;
      // In a row, a scope is written once.
      const short = name.split("/").at(-1)!;
      assert.ok(
        [`\`${name}\``, `\`${short}\``].some((span) => table.includes(span)),
        name,
      );
    }
  });
});

/** What `npm run check` would say of what is new; the rest of the repository is its own matter. */
async function checks(copy: RepositoryCopy): Promise<void> {
  const { output: types } = await copy.run("tsc");
  assert.doesNotMatch(types, /^(services\/(shipping|gateway)|gen)\//m);
  const lint = await copy.run("biome", "check", "--error-on-warnings", "services/shipping", "services/gateway");
  assert.equal(lint.code, 0, lint.output);
  for (const args of [["lint"], ["format", "--diff", "--exit-code", "proto"]]) {
    const buf = await copy.run("buf", ...args);
    assert.equal(buf.code, 0, buf.output);
  }
}

/** The one block of that language that is no file. */
function block(blocks: readonly FencedBlock[], language: string): string {
  const found = blocks.find((one) => one.language === language && one.file === undefined);
  if (found === undefined) throw new Error(`there is no block of ${language}`);
  return found.text;
}

/** The import to the imports of messages, the line to the end of `exposed`. */
function exposing(snippet: string): (app: string) => string {
  const [importLine = "", , entry = ""] = snippet.trimEnd().split("\n");
  return (app) =>
    app.replace(/(import .*#gen\/order\/.*\n)/, `$1${importLine}\n`).replace(/("order-service": .*\n)/, `$1${entry}\n`);
}

/** To the end of `services`, as it stands in the file. */
function configuring(snippet: string): (yaml: string) => string {
  return (yaml) => yaml.replace(/(\n {4}- name: order-service\n(?: {6}.*\n)+)/, `$1${snippet}`);
}

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

async function manifest(): Promise<Manifest> {
  return JSON.parse(await readFile(join(repository, "package.json"), "utf8")) as Manifest;
}
