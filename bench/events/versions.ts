import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import pg from "pg";
import { Connection } from "rabbitmq-client";

const WAIT_MS = 3_000;

export interface Versions {
  readonly rabbitmq: string;
  readonly postgres: string;
}

/** Connects to both services. @throws Error whose message says what the benchmark needs */
export async function findVersions(rabbitmqUrl: string, databaseUrl: string): Promise<Versions> {
  return { rabbitmq: await rabbitmqVersion(rabbitmqUrl), postgres: await postgresVersion(databaseUrl) };
}

async function rabbitmqVersion(url: string): Promise<string> {
  try {
    await signIn(url);
    return await versionInGreeting(new URL(url));
  } catch (cause) {
    const need = "the benchmark needs a RabbitMQ, at RABBITMQ_URL or at amqp://guest:guest@127.0.0.1:5672";
    throw new Error(`${need}: ${reasonOf(cause)}`, { cause });
  }
}

async function signIn(url: string): Promise<void> {
  const rabbit = new Connection({ url, connectionTimeout: WAIT_MS, acquireTimeout: WAIT_MS });
  try {
    await new Promise<void>((resolve, reject) => {
      rabbit.once("connection", resolve);
      rabbit.on("error", reject);
    });
  } finally {
    rabbit.unsafeDestroy();
  }
}

/** Reads the first frame itself, since rabbitmq-client does not expose the server's properties. */
async function versionInGreeting({ protocol, hostname, port }: URL): Promise<string> {
  const tls = protocol === "amqps:";
  const at = { host: hostname, port: Number(port || (tls ? 5671 : 5672)) };
  const socket = tls ? connectTls({ ...at, servername: hostname }) : connect(at);
  socket.setTimeout(WAIT_MS, () => socket.destroy(new Error("no answer")));
  socket.write(Buffer.from("AMQP\0\0\x09\x01", "latin1"));
  let greeting = "";
  for await (const chunk of socket) {
    greeting += (chunk as Buffer).toString("latin1");
    // A name, the type of its value, and four bytes for the length of that.
    const version = /versionS.{4}([\d.]+)[^\d.]/s.exec(greeting)?.[1];
    if (version !== undefined) return version;
  }
  return "unknown";
}

async function postgresVersion(url: string): Promise<string> {
  try {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: WAIT_MS });
    await client.connect();
    const { rows } = await client.query<{ server_version: string }>("show server_version");
    await client.end();
    return rows[0]?.server_version.split(" ")[0] ?? "unknown";
  } catch (cause) {
    const need =
      "the benchmark needs a PostgreSQL database, at DATABASE_URL or at postgres://postgres@127.0.0.1:5432/postgres";
    throw new Error(`${need}: ${reasonOf(cause)}`, { cause });
  }
}

/** A failure to connect to several addresses has no message of its own. */
function reasonOf(cause: unknown): string {
  const { message, code } = cause as { message?: string; code?: string };
  return message || code || String(cause);
}
