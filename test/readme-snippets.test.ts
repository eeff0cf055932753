// README.md's TypeScript compiles against what is there, and its table of policies says what the schema says.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { parse } from "yaml";
import { discoverySection, registrationSection } from "#shared/discovery";
import { grpcClientsSection } from "#shared/transport-pool";
import { blocksOf, sectionOf } from "./support/readme.ts";
import { repository } from "./support/service-process.ts";

/** What the text around a snippet takes for granted; a snippet that imports for itself stands alone. */
const preambles = {
  Events: `
    import type { Kysely } from "kysely";
    import { OrderPlacedSchema } from "#gen/order/v1/order_events_pb.ts";
    import type { EventBus, Inbox, Outbox } from "#shared/event-bus";
    interface Tables { orders: { id: string } }
    declare const db: Kysely<Tables>;
    declare const outbox: Outbox;
    declare const bus: EventBus;
    declare const inbox: Inbox<Tables>;
    declare const row: Tables["orders"];
    declare const id: string;
    declare const userId: string;
    declare const items: { bookId: string; quantity: number }[];
    declare function reserveIn(tx: unknown): (order: { id: string; items: unknown }) => Promise<void>;
  `,
  "The transport pool": `
    import { BookService } from "#gen/book/v1/book_pb.ts";
    import type { DiscoveryConfig } from "#shared/discovery";
    import type { Logger } from "#shared/logging";
    import { createTransportPool, type GrpcClientsConfig } from "#shared/transport-pool";
    declare const config: { server: { name: string }; grpcClients: GrpcClientsConfig; discovery: DiscoveryConfig };
    declare const logger: Logger;
    declare const id: string;
  `,
};

/** Where steps that build on one another import each other from. */
const names = [/export const configSection/, "config.ts"] as const;

for (const [heading, preamble] of Object.entries(preambles)) {
  test(`each TypeScript snippet of "${heading}" compiles`, async (t) => {
    const snippets = blocksOf(sectionOf(heading)).filter(
      ({ language, file }) => language === "ts" && file === undefined,
    );
    assert.ok(snippets.length >= 2);
    const folder = await mkdtemp(join(tmpdir(), "readme-"));
    t.after(() => rm(folder, { recursive: true }));
    for (const name of ["gen", "shared", "node_modules", "package.json"]) {
      await symlink(join(repository, name), join(folder, name));
    }
    for (const [index, { text }] of snippets.entries()) {
      const file = join(folder, "snippets", names[0].test(text) ? names[1] : `snippet-${index}.ts`);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text.startsWith("import ") ? text : `${preamble}\n${text}\nexport {};\n`);
    }
    const config = { extends: join(repository, "tsconfig.json"), include: ["snippets"] };
    await writeFile(join(folder, "tsconfig.json"), JSON.stringify(config));
    const tsc = join(repository, "node_modules/.bin/tsc");
    const { stdout } = await promisify(execFile)(tsc, ["-p", folder, "--noEmit"], { cwd: folder }).catch(
      (error: { stdout: string }) => error,
    );
    assert.equal(stdout, "");
  });
}

test("each YAML snippet of the pool is a configuration that loads", () => {
  const snippets = blocksOf(sectionOf("The transport pool")).filter(({ language }) => language === "yaml");
  assert.ok(snippets.length >= 2);
  for (const { text } of snippets) {
    const document = parse(text.replace(/\$\{\w+:-(.*?)\}/g, "$1")) as Record<string, unknown>;
    grpcClientsSection.parse(document["grpc_clients"]);
    discoverySection.parse(document["discovery"]);
    registrationSection.optional().parse(document["registration"]);
  }
});

test("the table of policies has the keys and the defaults of the schema", () => {
  const table = sectionOf("The transport pool").split("| Key | Default | Rule |")[1]?.split("\n\n")[0] ?? "";
  const rows = [...table.matchAll(/^\| (`.*?) \| (.*?) \| .* \|$/gm)];
  assert.ok(rows.length > 20, String(rows.length));
  // Sections that are not there by default are, so that their own defaults can be seen.
  const optional = { retry: { max: 1 }, hedge: {}, tls: {}, health_check: {} };
  let compared = 0;
  for (const [row, keys = "", fallbacks = ""] of rows) {
    const paths = pathsOf(keys);
    const values = [...fallbacks.matchAll(/`(.*?)`/g)].map(([, value = ""]) => value);
    for (const [index, path] of paths.entries()) {
      const value = values.length === paths.length ? values[index] : undefined;
      const section = path[0] as keyof typeof optional;
      const base = section in optional ? { [section]: optional[section] } : {};
      const given = value === undefined ? undefined : set(structuredClone(base), path, parse(value));
      assert.ok(isKnown(base, path), `there is no ${path.join(".")}: ${row}`);
      if (given === undefined) continue;
      assert.deepEqual(load(given), load(base), `the default of ${path.join(".")}: ${row}`);
      compared++;
    }
  }
  assert.ok(compared > 30, String(compared));
});

/** "`retry.max`, `.timeout`" and "`tls{ca_file,key_file}`" as paths. */
function pathsOf(cell: string): string[][] {
  const paths: string[][] = [];
  for (const [, text = ""] of cell.matchAll(/`(.*?)`/g)) {
    const [, before = "", inner] = /^(.*?)(?:\{(.*)\})?$/.exec(text) ?? [];
    const stem = before.startsWith(".") ? [...(paths.at(-1)?.slice(0, -1) ?? []), before.slice(1)] : before.split(".");
    for (const name of inner?.split(",") ?? [""]) paths.push(name === "" ? stem : [...stem, name]);
  }
  return paths;
}

function load(service: object): unknown {
  return grpcClientsSection.parse({ services: [{ name: "book-service", address: "localhost:9002", ...service }] });
}

/** An unknown key is told as such; anything else may be wrong with the value. */
function isKnown(base: object, path: readonly string[]): boolean {
  const service = { name: "book-service", address: "localhost:9002", ...set(structuredClone(base), path, null) };
  const { error } = grpcClientsSection.safeParse({ services: [service] });
  return !error?.issues.some(({ code }) => code === "unrecognized_keys");
}

function set(root: object, path: readonly string[], value: unknown): object {
  let at = root as Record<string, unknown>;
  for (const key of path.slice(0, -1)) {
    at[key] ??= {};
    at = at[key] as Record<string, unknown>;
  }
  at[path.at(-1) ?? ""] = value;
  return root;
}
