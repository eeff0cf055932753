// docs/events.md: its snippets compile, its commands exist, and its tables of keys say what the schemas say.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
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
  declare const tx: Transaction<Tables>;
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
  const folder = await protoFolder(t);
  const paths = [...(await writeSnippets(folder))].flatMap((path) => ["--path", path]);
  assert.equal(await buf(folder, "lint", ...paths), "");
});

test("buf breaking says of each change of an event what docs/events.md says it does", async (t) => {
  const [before, after] = [await protoFolder(t), await protoFolder(t)];
  const state = "enum ParcelState {\n  PARCEL_STATE_UNSPECIFIED = 0;\n}\n";
  const add = (text: string) => (proto: string) => proto + text;
  const change = (from: string, to: string) => (proto: string) => {
    assert.ok(proto.includes(from), from);
    return proto.replaceAll(from, to);
  };
  const carrier = "string carrier = 2;";
  const rule = "[(buf.validate.field).string.min_len = 1];";
  const changes: Readonly<Record<string, (proto: string) => string>> = {
    "Add a field": change(carrier, `${carrier}\n  string box = 3;`),
    "Add an event": add(
      'message ParcelLost {\n  option (meridian.v1.event) = {routing_key: "shipping.parcel_lost"};\n}\n',
    ),
    "Add an enum value": change(
      "PARCEL_STATE_UNSPECIFIED = 0;",
      "PARCEL_STATE_UNSPECIFIED = 0;\n  PARCEL_STATE_SENT = 1;",
    ),
    "Add or tighten a rule": change(carrier, carrier.replace(";", ` ${rule}`)),
    "Loosen a rule": change(" [(buf.validate.field).string.uuid = true]", ""),
    "Change `routing_key`": change("shipping.parcel_sent", "shipping.sent"),
    "Rename a field": change("carrier", "carrier_name"),
    "Remove, renumber or retype a field": change(carrier, ""),
    "Rename or move the message": change("ParcelSent", "ParcelShipped"),
  };
  const [path = ""] = await writeSnippets(before, add(state));
  assert.match(path, /shipping_events\.proto$/);
  const rows = [...sectionOf("Change an event", page).matchAll(/^\| (.*?)(?:, such as .*?)? \| (.*?) \|/gm)].slice(2);
  assert.deepEqual(rows.map(([, name]) => name).toSorted(), Object.keys(changes).toSorted());
  for (const [, name = "", verdict = ""] of rows) {
    await writeSnippets(after, (proto) => changes[name]?.(proto + state) ?? proto);
    const said = await buf(after, "breaking", "--against", before);
    assert.equal(said === "", verdict.replaceAll("*", "") === "allows it", `${name}: ${said}`);
  }
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

/** Copies the repository's protos into a folder of the test's own. */
async function protoFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "docs-proto-"));
  t.after(() => rm(folder, { recursive: true }));
  await cp(join(repository, "proto"), join(folder, "proto"), { recursive: true });
  await cp(join(repository, "buf.yaml"), join(folder, "buf.yaml"));
  await symlink(join(repository, "node_modules"), join(folder, "node_modules"));
  return folder;
}

/** Writes the proto snippets of the page beside the other protos, and returns their paths. */
async function writeSnippets(folder: string, edit = (proto: string) => proto): Promise<string[]> {
  const paths: string[] = [];
  for (const { language, file, text } of blocksOf(page)) {
    if (language !== "proto") continue;
    assert.ok(file !== undefined, "a proto snippet says which file it is");
    const path = join(folder, "proto", file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, edit(text));
    paths.push(path);
  }
  return paths;
}

/** Runs buf, and returns what it says. */
async function buf(folder: string, ...args: string[]): Promise<string> {
  const program = join(repository, "node_modules/.bin/buf");
  const { stdout, stderr } = await promisify(execFile)(program, args, { cwd: folder }).catch(
    (error: { stdout: string; stderr: string }) => error,
  );
  return stdout + stderr;
}

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
