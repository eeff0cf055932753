import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { after, type TestContext } from "node:test";
import { promisify } from "node:util";
import { Connection } from "rabbitmq-client";
import { closeAfter, until, within } from "#shared/testing";
import { freePort } from "./free-port.ts";
import { type Running, runGuarded } from "./guarded-program.ts";
import { skipWithout } from "./skip.ts";

/** A RabbitMQ node of the test's own, to be killed and tormented. */
export interface PrivateBroker {
  /** The same over all restarts. */
  readonly url: string;
  readonly port: number;
  /**
   * Ends the Erlang VM by SIGKILL; answers when it is gone. RabbitMQ 3.10 forgets what its quorum queues hold, confirmed or
   * not, and never answers on them again, when they were declared less than a second before: see `settled`.
   */
  kill(): Promise<void>;
  /** Makes the quorum queues that are declared by now survive `kill`. Takes some 0.3 s. */
  settled(): Promise<void>;
  /** Ends it in order, by SIGTERM. */
  stop(): Promise<void>;
  /** Starts it again on the data that it had; answers when it accepts connections. */
  start(): Promise<void>;
  /** What `rabbitmqctl` writes, without table headers; rejects when it fails. */
  ctl(...args: readonly string[]): Promise<string>;
  /** Ends all of it and removes its data. */
  close(): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;
const CTL_TIMEOUT_MS = 30_000;

const execute = promisify(execFile);

/** Where RabbitMQ's own scripts are. What Debian and RPM have on the PATH insists on the user `rabbitmq`. */
const FOLDERS = [
  ...(process.env["TEST_RABBITMQ_PROGRAMS"] ?? "").split(delimiter).filter(Boolean),
  "/usr/lib/rabbitmq/bin", // Debian, RPM
  "/opt/rabbitmq/sbin", // the Docker image
  "/opt/homebrew/opt/rabbitmq/sbin",
  "/usr/local/opt/rabbitmq/sbin",
];

/**
 * A broker of the test's own, closed after it. Without RabbitMQ's programs the test is skipped and the answer is undefined
 * (return then); with `CI=true` it fails.
 */
export async function privateBrokerForTest(t: TestContext): Promise<PrivateBroker | undefined> {
  const reason = skipWithout("rabbitmq-server", findScripts() !== undefined);
  if (reason !== false) {
    t.skip(reason);
    return undefined;
  }
  const broker = await startPrivateBroker();
  closeAfter(t, () => broker.close());
  return broker;
}

/**
 * One broker for all tests of a file, which use names of their own on it, in place of a start for each. The first test that
 * asks starts it.
 *
 * @returns what `privateBrokerForTest` is for one test
 */
export function privateBrokerForFile(): (t: TestContext) => Promise<PrivateBroker | undefined> {
  let broker: Promise<PrivateBroker> | undefined;
  after(async () => (await broker)?.close());
  return async (t) => {
    const reason = skipWithout("rabbitmq-server", findScripts() !== undefined);
    if (reason !== false) {
      t.skip(reason);
      return undefined;
    }
    broker ??= startPrivateBroker();
    return broker;
  };
}

/** A start takes some 4 s, and 3 s of CPU time. Whoever starts it closes it. */
export async function startPrivateBroker(): Promise<PrivateBroker> {
  const scripts = findScripts();
  if (scripts === undefined) throw new Error("there is no rabbitmq-server");
  const server = join(scripts, "rabbitmq-server");
  const rabbitmqctl = join(scripts, "rabbitmqctl");
  const folder = await mkdtemp(join(tmpdir(), "meridian-broker-"));
  const port = await freePort();
  const epmdPort = await freePort();
  const env = await prepare(folder, { port, epmdPort, distributionPort: await freePort() });
  const url = `amqp://guest:guest@127.0.0.1:${port}`;
  let epmd: Running | undefined;
  let node: Running | undefined;

  async function start(): Promise<void> {
    if (node !== undefined && !node.ended()) throw new Error("the broker runs already");
    // With input allowed the script becomes the Erlang VM: this process is the one to kill.
    node = await runGuarded(server, ["-noinput"], folder, env);
    await accepting(url, node);
  }
  async function ctl(...args: readonly string[]): Promise<string> {
    const options = { env, cwd: folder, timeout: CTL_TIMEOUT_MS, killSignal: "SIGKILL" } as const;
    return (await execute(rabbitmqctl, ["--silent", ...args], options)).stdout;
  }
  async function end(signal: NodeJS.Signals): Promise<void> {
    await node?.end(signal);
  }
  async function close(): Promise<void> {
    await end("SIGKILL");
    await epmd?.end("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }

  try {
    // Of its own too: the one that a VM starts for itself would outlive it.
    epmd = await runGuarded("epmd", ["-port", String(epmdPort)], folder, env);
    await listening(epmdPort, epmd);
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    url,
    port,
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    start,
    async settled() {
      // Which log belongs to which queue stands in a file that is written every half a second.
      await ctl("eval", "lists:foreach(fun dets:sync/1, dets:all()).");
    },
    ctl,
    close,
  };
}

function findScripts(): string | undefined {
  return [...FOLDERS, ...(process.env["PATH"] ?? "").split(delimiter)].find((folder) => {
    try {
      for (const name of ["rabbitmq-server", "rabbitmqctl"]) accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

interface Ports {
  readonly port: number;
  readonly epmdPort: number;
  readonly distributionPort: number;
}

/** Writes the node's configuration. Answers the environment that it and `rabbitmqctl` need, and nothing of the machine's. */
async function prepare(folder: string, { port, epmdPort, distributionPort }: Ports): Promise<NodeJS.ProcessEnv> {
  const home = join(folder, "home");
  await mkdir(home);
  await writeFile(join(home, ".erlang.cookie"), randomBytes(20).toString("hex"), { mode: 0o400 });
  const lines = [`listeners.tcp.local = 127.0.0.1:${port}`, "loopback_users = none", "disk_free_limit.absolute = 10MB"];
  await writeFile(join(folder, "rabbitmq.conf"), lines.join("\n"));
  await writeFile(join(folder, "advanced.config"), "[].");
  await writeFile(join(folder, "enabled_plugins"), "[].");
  await writeFile(join(folder, "rabbitmq-env.conf"), "");
  return {
    PATH: process.env["PATH"],
    LANG: "C.UTF-8",
    HOME: home,
    ERL_EPMD_ADDRESS: "127.0.0.1",
    ERL_EPMD_PORT: String(epmdPort),
    ERL_FLAGS: "-kernel inet_dist_use_interface {127,0,0,1}",
    RABBITMQ_ALLOW_INPUT: "true",
    RABBITMQ_NODENAME: `test_${randomBytes(8).toString("hex")}@localhost`,
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
    RABBITMQ_CONFIG_FILES: join(folder, "conf.d"),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, "advanced.config"),
    RABBITMQ_CONF_ENV_FILE: join(folder, "rabbitmq-env.conf"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "enabled_plugins"),
    RABBITMQ_MNESIA_BASE: join(folder, "data"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_LOGS: "-",
    RABBITMQ_PID_FILE: join(folder, "pid"),
  };
}

async function listening(port: number, program: Running): Promise<void> {
  await until("a program to listen", async () => {
    if (program.ended()) throw new Error(`ended at its start: ${program.output()}`);
    const socket = net.connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return true;
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  });
}

async function accepting(url: string, node: Running): Promise<void> {
  const connection = new Connection({ url, retryLow: 50, retryHigh: 100 });
  connection.on("error", () => {}); // It tries again.
  const connected = new Promise<void>((resolve) => connection.once("connection", resolve));
  const ended = node.exit.then(() => {
    throw new Error(`RabbitMQ has ended at its start: ${node.output()}`);
  });
  try {
    await within(Promise.race([connected, ended]), "RabbitMQ to accept connections", START_TIMEOUT_MS);
  } finally {
    connection.unsafeDestroy();
  }
}
