// `node test/support/with-trixie.ts COMMAND…`: runs a command with a RabbitMQ 4 and a PostgreSQL 17 of its own (trixie.sh)
// in TEST_RABBITMQ_URL and TEST_POSTGRES_URL; the brokers that fault tests start are RabbitMQ 4 too.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import pg from "pg";
import { until } from "#shared/testing";
import { freePort } from "./free-port.ts";
import { runGuarded } from "./guarded-program.ts";

const START_TIMEOUT_MS = 60_000;

const [command, ...args] = process.argv.slice(2);
if (command === undefined) throw new Error("usage: node test/support/with-trixie.ts COMMAND…");

const programs = execFileSync(join(import.meta.dirname, "trixie.sh"), { encoding: "utf8" }).trim();
process.env["TEST_RABBITMQ_PROGRAMS"] = programs;
// Only now: it looks for the programs when it is loaded.
const { startPrivateBroker } = await import("./private-broker.ts");

const postgres = await startPostgres();
const broker = await startPrivateBroker();
try {
  const env = { ...process.env, TEST_RABBITMQ_URL: broker.url, TEST_POSTGRES_URL: postgres.url };
  const child = spawn(command, args, { env, stdio: "inherit" });
  const [code] = await once(child, "exit");
  process.exitCode = typeof code === "number" ? code : 1;
} finally {
  await broker.close();
  await postgres.close();
}

async function startPostgres() {
  const folder = await mkdtemp(join(tmpdir(), "meridian-postgres-"));
  await chmod(folder, 0o777); // The user of PostgreSQL is not the one of this process.
  const data = join(folder, "data");
  const initdb = ["--pgdata", data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-sync"];
  execFileSync(join(programs, "initdb"), initdb, { stdio: ["ignore", "ignore", "inherit"] });
  const port = await freePort();
  const settings = [`port=${port}`, "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"];
  const options = ["-D", data, ...settings.flatMap((setting) => ["-c", setting])];
  const running = await runGuarded(join(programs, "postgres"), options, folder, process.env);
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  await until("PostgreSQL to accept connections", () => accepts(url), START_TIMEOUT_MS);
  return {
    url,
    async close() {
      await running.end("SIGINT"); // Fast shutdown: ends all sessions.
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function accepts(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}
