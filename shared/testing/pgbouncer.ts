import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import pg from "pg";
import { closeAfter } from "./close-after.ts";
import { postgresForTest } from "./database.ts";
import { freePort, programForTest, runProgram } from "./programs.ts";
import { until } from "./waiting.ts";

export interface PgbouncerForTest {
  /** The URL of a new, empty database, through PgBouncer. */
  readonly url: string;
  /** The same database's URL, past PgBouncer. */
  readonly directUrl: string;
}

export interface PgbouncerOptions {
  /** Further lines of the section `pgbouncer`, such as `ignore_startup_parameters = options`. */
  readonly settings?: readonly string[];
}

/**
 * A PgBouncer of the test's own before a new database of `postgresForTest`: in transaction mode, else with its default
 * settings. Without PgBouncer or PostgreSQL the test is skipped and the result is undefined (return then); with `CI=true`
 * it fails.
 */
export async function pgbouncerForTest(
  t: TestContext,
  { settings = [] }: PgbouncerOptions = {},
): Promise<PgbouncerForTest | undefined> {
  const program = programForTest(t, "pgbouncer", "pgbouncer");
  if (program === undefined) return undefined;
  const directUrl = await postgresForTest(t);
  if (directUrl === undefined) return undefined;
  const { hostname, port: serverPort, username, password } = new URL(directUrl);
  const folder = await mkdtemp(join(tmpdir(), "pgbouncer-"));
  closeAfter(t, () => rm(folder, { recursive: true, force: true }));
  const port = await freePort();
  const users = join(folder, "users.txt");
  const config = join(folder, "pgbouncer.ini");
  await writeFile(users, `"${decodeURIComponent(username)}" "${decodeURIComponent(password)}"\n`);
  await writeFile(
    config,
    [
      "[databases]",
      `* = host=${hostname} port=${serverPort || 5432}`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = trust",
      `auth_file = ${users}`,
      "pool_mode = transaction",
      ...settings,
    ].join("\n"),
  );
  // PgBouncer refuses to run as root, and another user has to read its files.
  const isRoot = process.getuid?.() === 0;
  if (isRoot) await chmod(folder, 0o755);
  const running = runProgram(program, [...(isRoot ? ["-u", "nobody"] : []), config]);
  closeAfter(t, () => running.kill());
  const url = new URL(directUrl);
  url.host = `127.0.0.1:${port}`;
  await until("PgBouncer to serve", async () => {
    if (running.child.exitCode !== null) throw new Error(`PgBouncer has ended: ${running.said()}`);
    return await connects(url.href);
  });
  return { url: url.href, directUrl };
}

async function connects(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}
