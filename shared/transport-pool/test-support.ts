import { spawn } from "node:child_process";
import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { createLogger } from "#shared/logging";
import { createTransportPool, grpcClientsSection, type TransportPoolOptions } from "./index.ts";

/** A real peer over HTTP/2 in the clear. */
export interface Peer {
  readonly address: string;
  readonly port: number;
  readonly server: http2.Http2Server;
  readonly sessions: Set<http2.ServerHttp2Session>;
  /** Every session that there has been. */
  sessionCount(): number;
  /** Ends it as a killed process would. */
  kill(): Promise<void>;
}

export type Routes = (router: ConnectRouter) => void;

export async function startPeer(
  t: TestContext,
  routes: Routes,
  options: http2.ServerOptions & { port?: number; host?: string } = {},
): Promise<Peer> {
  const { port = 0, host = "127.0.0.1", ...serverOptions } = options;
  const server = http2.createServer(serverOptions, connectNodeAdapter({ routes }));
  const sessions = new Set<http2.ServerHttp2Session>();
  const sockets = new Set<net.Socket>();
  let sessionCount = 0;
  server.on("connection", (socket: net.Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.on("session", (session) => {
    sessionCount++;
    sessions.add(session);
    session.on("error", () => {});
    session.on("close", () => sessions.delete(session));
  });
  server.on("sessionError", () => {});
  server.listen(port, host);
  await once(server, "listening");
  async function kill(): Promise<void> {
    const closed = server.listening ? once(server, "close") : undefined;
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  }
  t.after(kill);
  const bound = portOf(server);
  const address = host.includes(":") ? `[${host}]:${bound}` : `${host}:${bound}`;
  return { address, server, port: bound, sessions, sessionCount: () => sessionCount, kill };
}

/** The HTTP/2 frame that a peer begins with. */
export const EMPTY_SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

/** A peer that speaks what the handler speaks, or nothing. */
export async function startTcpPeer(t: TestContext, onConnection: (socket: net.Socket) => void): Promise<string> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    onConnection(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${portOf(server)}`;
}

/** A peer whose process is stopped and whose backlog is full: the kernel drops further SYNs. */
export async function startStoppedPeer(t: TestContext): Promise<string> {
  const script = `require("net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, function () {
    process.stdout.write(String(this.address().port));
  })`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const [port] = await once(child.stdout, "data");
  child.kill("SIGSTOP");
  for (let i = 0; i < 20; i++) {
    const socket = net.connect(Number(port), "127.0.0.1");
    t.after(() => socket.destroy());
    socket.on("error", () => {});
    const isFull = await Promise.race([once(socket, "connect").then(() => false), delay(200, true)]);
    if (isFull) return `127.0.0.1:${port}`;
  }
  throw new Error("the backlog takes more than 20 connections");
}

export async function startHttp1Peer(t: TestContext, routes: Routes): Promise<string> {
  const server = http.createServer(connectNodeAdapter({ routes }));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `127.0.0.1:${portOf(server)}`;
}

/** A port on which nothing listens. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const port = portOf(server);
  server.close();
  await once(server, "close");
  return port;
}

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** A real logger whose lines can be read. */
export function recordingLogger(level: "debug" | "silent" = "debug") {
  const lines: LogLine[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) };
  return { lines, logger: createLogger({ name: "user-service", config: { level, format: "json" }, destination }) };
}

type ServiceYaml = { address: string | string[]; name?: string; [key: string]: unknown };

/** A pool with one service, book-service. */
export function startPool(t: TestContext, service: ServiceYaml, options: Partial<TransportPoolOptions> = {}) {
  const config = grpcClientsSection.parse({ services: [{ name: "book-service", ...service }] });
  const { lines, logger } = recordingLogger();
  const pool = createTransportPool(config, { logger, caller: "user-service", ...options });
  t.after(() => pool.close());
  return { pool, lines, books: pool.client("book-service", BookService) };
}

/** Looks again and again until it is so; for what has no event to wait for. */
export async function until(isSo: () => boolean, withinMs = 5_000): Promise<void> {
  const giveUpAt = performance.now() + withinMs;
  while (!isSo()) {
    if (performance.now() > giveUpAt) throw new Error(`not so within ${withinMs} ms: ${isSo}`);
    await delay(2);
  }
}

/** Fails instead of hanging. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not settled within ${ms} ms`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function portOf(server: net.Server | http2.Http2Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not listening on a port");
  return address.port;
}

/** The error that a call fails with. */
export async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  try {
    await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call did not fail");
}
