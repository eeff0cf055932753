import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { closeAfter } from "./close-after.ts";
import { freePort, programForTest, type RunningProgram, runProgram } from "./programs.ts";
import { until } from "./waiting.ts";

const REQUEST_TIMEOUT_MS = 5_000;

export interface EtcdForTest {
  readonly port: number;
  /** `http://127.0.0.1:port` */
  readonly url: string;
  /** Kills it (SIGKILL). */
  stop(): Promise<void>;
  /** Starts it again at the same port, with its data, and waits until it serves. */
  start(): Promise<void>;
  /** From the next start on it has no data. */
  forget(): Promise<void>;
  put(key: string, value: string): Promise<void>;
  delete(key: string): Promise<void>;
  /** The keys that begin so, with their values. */
  list(prefix: string): Promise<ReadonlyMap<string, string>>;
  /** Any request of its JSON gateway: `call("/v3/kv/compaction", { revision: "7" })`. */
  call(path: string, body: object, headers?: Readonly<Record<string, string>>): Promise<unknown>;
}

/**
 * Starts an etcd for the test, with its data in a temporary folder. Without the program the test is skipped and the result
 * is undefined (return then); with `CI=true` it fails.
 */
export async function etcdForTest(t: TestContext): Promise<EtcdForTest | undefined> {
  const program = programForTest(t, "etcd", "etcd-server");
  if (program === undefined) return undefined;
  const folder = await mkdtemp(join(tmpdir(), "etcd-"));
  const dataFolder = join(folder, "data");
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let running: RunningProgram | undefined;

  const call: EtcdForTest["call"] = async (path, body, headers = {}) => {
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body), signal });
    const text = await response.text();
    if (!response.ok) throw new Error(`etcd answered ${response.status} to ${path}: ${text}`);
    return JSON.parse(text);
  };

  async function stop(): Promise<void> {
    await running?.kill();
    running = undefined;
  }

  async function start(): Promise<void> {
    await stop();
    const started = runProgram(program as string, argumentsOf(url, dataFolder));
    running = started;
    await until("etcd to serve", async () => {
      if (started.child.exitCode !== null) throw new Error(`etcd has ended: ${started.said()}`);
      // Only once it has a leader.
      return fetch(`${url}/health`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) }).then(
        ({ ok }) => ok,
        () => false,
      );
    });
  }

  closeAfter(t, async () => {
    await stop();
    await rm(folder, { recursive: true, force: true });
  });
  await start();
  return {
    port,
    url,
    stop,
    start,
    call,
    forget: () => rm(dataFolder, { recursive: true, force: true }),
    async put(key, value) {
      await call("/v3/kv/put", { key: base64(key), value: base64(value) });
    },
    async delete(key) {
      await call("/v3/kv/deleterange", { key: base64(key) });
    },
    async list(prefix) {
      const body = { key: base64(prefix), range_end: base64(`${prefix}\u007f`) };
      const { kvs = [] } = (await call("/v3/kv/range", body)) as { kvs?: { key: string; value?: string }[] };
      return new Map(kvs.map(({ key, value = "" }) => [text(key), text(value)]));
    },
  };
}

/** Alone, with elections that are quick. Its peers' port is any. */
function argumentsOf(url: string, dataFolder: string): string[] {
  const peers = "http://127.0.0.1:0";
  return [
    ...["--name", "test", "--data-dir", dataFolder, "--log-level", "error"],
    ...["--listen-client-urls", url, "--advertise-client-urls", url],
    ...["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", `test=${peers}`],
    ...["--heartbeat-interval", "50", "--election-timeout", "500"],
  ];
}

function base64(value: string): string {
  return Buffer.from(value, "utf8").toString("base64");
}

function text(value: string): string {
  return Buffer.from(value, "base64").toString("utf8");
}
