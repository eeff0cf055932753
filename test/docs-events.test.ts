// docs/events.md: its snippets compile, its commands exist, and its tables of keys say what the schemas say.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { databaseSection } from "#shared/database";
import { rabbitmqSection } from "#shared/event-bus";
import { runEventsCommand } from "#shared/events-cli";
import { compareKeyTable, withKey } from "./support/key-table.ts";
import { blocksOf, sectionOf } from "./support/readme.ts";
import { repository } from "./support/service-process.ts";
import { assertCompiles } from "./support/snippets.ts";

const page = await readFile(join(repository, "docs/events.md"), "utf8");

const PREAMBLE = `
  import type { Kysely, Transaction } from "kysely";
  import type { Client } from "@connectrpc/connect";
  import { OrderPlacedSchema, OrderTimeoutElapsedSchema, type OrderPlaced } from "#gen/order/v1/order_events_pb.ts";
  import type { User, UserService } from "#gen/user/v1/user_pb.ts";
  import { type EventBus, type Inbox, type Outbox, withPrepare } from "#shared/event-bus";
  interface Tables { orders: { id: string } }
  type Order = { id: string; items: unknown };
  declare const db: Kysely<Tables>;
  declare const outbox: Outbox;
  declare const bus: EventBus;
  declare const inbox: Inbox<Tables>;
  declare const users: Client<typeof UserService>;
  declare const row: Tables["orders"];
  declare const id: string;
  declare const userId: string;
  declare const items: { bookId: string; quantity: number }[];
  declare function reserveIn(tx: Transaction<Tables>): (order: Order) => Promise<void>;
  declare function reserveFor(user: User | undefined, order: Order, tx: Transaction<Tables>): Promise<void>;
`;

test("each TypeScript snippet of docs/events.md compiles", async (t) => {
  assert.ok((await assertCompiles(t, page, PREAMBLE)) >= 6);
});

test("each proto snippet of docs/events.md passes buf lint beside the repository's protos", async (t) => {
  const protos = blocksOf(page).filter(({ language }) => language === "proto");
  assert.ok(protos.length > 0);
  const folder = await mkdtemp(join(tmpdir(), "docs-proto-"));
  t.after(() => rm(folder, { recursive: true }));
  await cp(join(repository, "proto"), join(folder, "proto"), { recursive: true });
  await cp(join(repository, "buf.yaml"), join(folder, "buf.yaml"));
  await symlink(join(repository, "node_modules"), join(folder, "node_modules"));
  const files: string[] = [];
  for (const { file, text } of protos) {
    assert.ok(file !== undefined, "a proto snippet says which file it is");
    const path = join(folder, "proto", file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    files.push("--path", path);
  }
  const buf = join(repository, "node_modules/.bin/buf");
  const { stdout } = await promisify(execFile)(buf, ["lint", ...files], { cwd: folder }).catch(
    (error: { stdout: string; stderr: string }) => ({ stdout: error.stdout + error.stderr }),
  );
  assert.equal(stdout, "");
});

test("each events command of docs/events.md is in the command's usage", async () => {
  const { stdout: usage } = await runEventsCommand(["--help"], {}, { services: {}, files: [], protoFolder: "" });
  const commands = [...page.matchAll(/`npm run events -- ([a-z-]+(?: [a-z]+)?)(.*?)`/g)];
  assert.ok(commands.length >= 5);
  for (const [text, command = "", options = ""] of commands) {
    const found = usage.split("\n").find((line) => line.trim().split(/ +(?=[-<([]| {2})/)[0] === command);
    assert.ok(found !== undefined, `there is no such command: ${text}`);
    for (const [option] of options.matchAll(/--[a-z]+/g)) assert.ok(usage.includes(option), `${option}: ${text}`);
  }
});

test("the table of the rabbitmq section has every key, with its default", () => {
  const required = { exchange: "bookshop", queue: "book_service_queue" };
  const { keys, compared } = compareKeyTable({
    table: tableAfter("The `rabbitmq` section."),
    load: (section) => rabbitmqSection.parse({ ...required, ...section }),
    isKnown: (section, path) => knows(rabbitmqSection, section, path),
  });
  assert.ok(compared >= 20, String(compared));
  const all = Object.keys(rabbitmqSection.in.shape);
  assert.deepEqual(
    all.filter((key) => !keys.some((known) => known === key || known.startsWith(`${key}.`))),
    [],
  );
});

test("the table of the database section has keys that are there, with their defaults", () => {
  const { compared } = compareKeyTable({
    table: tableAfter("The keys of the `database` section"),
    load: (section) => databaseSection.parse({ url: "postgres://localhost/meridian", ...section }),
    isKnown: (section, path) => knows(databaseSection, section, path),
  });
  assert.ok(compared >= 5, String(compared));
});

test("each link within docs/events.md leads to a heading", () => {
  const slugs = [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading.toLowerCase().replaceAll(" ", "-"));
  for (const [, slug = ""] of page.matchAll(/\]\(#([^)]+)\)/g)) assert.ok(slugs.includes(slug), slug);
});

function tableAfter(text: string): string {
  const after = sectionOf("Configuration", page).split(text)[1];
  assert.ok(after !== undefined, text);
  return after.split("\n\n")[1] ?? "";
}

interface Schema {
  safeParse(value: unknown): { readonly error?: { readonly issues: readonly { readonly code: string }[] } | undefined };
}

function knows(schema: Schema, section: object, path: readonly string[]): boolean {
  const { error } = schema.safeParse(withKey(structuredClone(section), path, null));
  return !error?.issues.some(({ code }) => code === "unrecognized_keys");
}
