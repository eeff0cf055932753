// A process that makes very many calls, to servers in it, and tells as JSON what is left of them. It loads nothing that
// loads node:test, see `startLink`.

import { getEventListeners } from "node:events";
import process from "node:process";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { type CallContext, readContextHeaders, runInCall } from "#shared/call-context";
import { createReadiness } from "#shared/lifecycle";
import { createLogger } from "#shared/logging";
import { createServer, serverSection } from "#shared/server";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { startLink } from "./link.ts";

export interface CallerOptions {
  /** In all. */
  readonly calls: number;
  /** Of them, before the first look: what the first ones leave behind is there for good. */
  readonly warmUp: number;
  /** A connection is cut each time that so many have ended. */
  readonly callsPerCut: number;
  /** What the pool's configuration has about the service besides its name and address. */
  readonly service: Readonly<Record<string, unknown>>;
}

export interface CallerReport {
  /** How many calls failed, by their message. */
  readonly failures: Readonly<Record<string, number>>;
  readonly before: Look;
  readonly after: Look;
  /** What listens to signals that outlive their calls: a caller's, an incoming call's. */
  readonly listeners: number;
  readonly openCalls: number;
  readonly warnings: readonly string[];
}

export interface Look {
  /** In bytes, all that is garbage collected. */
  readonly heap: number;
  /** What keeps, or could keep, the process: sockets, timers. By type. */
  readonly resources: Readonly<Record<string, number>>;
}

const CALLERS = 50;
const SETTLE_MS = 20_000;

const options = JSON.parse(process.env["CALLER"] ?? "{}") as CallerOptions;
const logger = createLogger({ name: "caller", config: { level: "silent", format: "json" } });
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
const warnings: string[] = [];
process.on("warning", ({ name, message }) => warnings.push(`${name}: ${message}`));

const servers = [1, 2].map(() =>
  createServer({
    config: serverSection.parse({ name: "book-service", host: "127.0.0.1", port: 0, shutdown_timeout: "1s" }),
    logger,
    readiness: createReadiness(),
    routes: (router) => router.service(BookService, { getBook: ({ id }) => ({ book: { id, title: "The Hobbit" } }) }),
  }),
);
for (const server of servers) await server.start();
const links = await Promise.all(servers.map(({ url }) => startLink(Number(new URL(url).port))));
const address = links.map(({ port }) => `127.0.0.1:${port}`);
const config = grpcClientsSection.parse({
  services: [{ name: "book-service", address, connect_backoff: { initial: "20ms", max: "100ms" }, ...options.service }],
});
const pool = createTransportPool(config, { logger, caller: "test", closeTimeoutMs: 0 });
const books = pool.client("book-service", BookService);
pool.connect();

const own = new AbortController().signal;
/** An incoming call that goes on and on, such as a stream that has been open for weeks. */
const incoming: CallContext = {
  ...readContextHeaders(new Headers()),
  method: "test.v1.TestService/Watch",
  signal: new AbortController().signal,
};
const failures: Record<string, number> = {};
let begun = 0;
let ended = 0;

/** With a signal of the caller's, as part of an incoming call, with both, and with neither. */
function call(n: number): Promise<unknown> {
  const read = () => books.getBook({ id: "x" }, n % 2 === 0 ? { signal: own } : {});
  return n % 4 < 2 ? runInCall(incoming, read) : read();
}

async function callUntil(count: number): Promise<void> {
  while (begun < count) {
    try {
      await call(begun++);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      failures[text] = (failures[text] ?? 0) + 1;
    }
    if (++ended % options.callsPerCut === 0) links[(ended / options.callsPerCut) % links.length]?.cut();
  }
}

async function settled(): Promise<void> {
  const giveUpAt = performance.now() + SETTLE_MS;
  const isSettled = () =>
    links.every(({ connections }) => connections === 1) &&
    pool.states()[0]?.endpoints.every(({ state, connections }) => state === "ready" && connections === 1) === true;
  while (!isSettled()) {
    if (performance.now() > giveUpAt) throw new Error(`not as at first: ${JSON.stringify(pool.states())}`);
    await delay(20);
  }
}

async function callAndLook(count: number): Promise<Look> {
  await Promise.all(Array.from({ length: CALLERS }, () => callUntil(count)));
  // The last call may have cut a connection that nobody has asked for since.
  for (let n = 0; n < 20; n++) await call(n);
  await settled();
  for (let turn = 0; turn < 5; turn++) {
    await nextTurn();
    collectGarbage();
  }
  const resources: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo().toSorted()) resources[name] = (resources[name] ?? 0) + 1;
  return { heap: process.memoryUsage().heapUsed, resources };
}

const before = await callAndLook(options.warmUp);
const after = await callAndLook(options.calls);
const report: CallerReport = {
  failures,
  before,
  after,
  listeners: [own, incoming.signal].reduce((sum, signal) => sum + getEventListeners(signal, "abort").length, 0),
  openCalls: pool.states()[0]?.openCalls ?? 0,
  warnings,
};
process.stdout.write(`${JSON.stringify(report)}\n`);
await pool.close();
for (const link of links) await link.close();
for (const server of servers) await server.stop();
