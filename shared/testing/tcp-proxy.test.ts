import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { type TestContext, test } from "node:test";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.ts";
import { until, within } from "./waiting.ts";

/** One end of a connection, with all that has come to it. */
interface End {
  readonly socket: net.Socket;
  received(): string;
  ended(): boolean;
  /** How it was closed; undefined while it is open. */
  fault(): string | undefined;
}

function endOf(t: TestContext, socket: net.Socket): End {
  let received = "";
  let fault: string | undefined;
  t.after(() => socket.destroy());
  socket
    .setEncoding("utf8")
    .on("data", (text: string) => {
      received += text;
    })
    .on("error", (error: NodeJS.ErrnoException) => {
      fault = error.code;
    })
    .on("close", () => {
      fault ??= "none";
    });
  return { socket, received: () => received, ended: () => socket.readableEnded, fault: () => fault };
}

interface Target {
  readonly port: number;
  /** Those that came, in order. */
  readonly ends: readonly End[];
  /** Waits for the one that comes after those that there are. */
  next(): Promise<End>;
}

/** A server whose answers the test gives. */
async function startTarget(t: TestContext): Promise<Target> {
  const ends: End[] = [];
  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => ends.push(endOf(t, socket)));
  t.after(() => server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  let seen = 0;
  return {
    port: (server.address() as net.AddressInfo).port,
    ends,
    async next() {
      await until("a connection at the target", () => ends.length > seen);
      return ends[seen++]!;
    },
  };
}

function dial(t: TestContext, port: number): End {
  return endOf(t, net.connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true }));
}

async function connect(t: TestContext, port: number): Promise<End> {
  const end = dial(t, port);
  await within(once(end.socket, "connect"), "a connection");
  return end;
}

interface Connected {
  readonly proxy: TcpProxy;
  readonly target: Target;
  readonly client: End;
  readonly server: End;
}

async function connected(t: TestContext): Promise<Connected> {
  const target = await startTarget(t);
  const proxy = await startTcpProxy(target);
  t.after(() => proxy.close());
  const client = await connect(t, proxy.port);
  return { proxy, target, client, server: await target.next() };
}

async function gets(end: End, text: string): Promise<void> {
  await until(`${JSON.stringify(text)} to come`, () => end.received() === text);
}

async function isClosed(end: End, fault: string): Promise<void> {
  await until("an end to be closed", () => end.fault() !== undefined);
  assert.equal(end.fault(), fault);
}

/** Past the proxy, so often there and back that whatever could have come through the proxy has come. */
async function letTimePass(t: TestContext, target: Target): Promise<void> {
  const near = await connect(t, target.port);
  const far = await target.next();
  for (let round = 0; round < 100; round++) {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.socket.write(".");
      await within(once(to.socket, "data"), "what did not go through the proxy");
    }
  }
}

test("bytes and ends pass, in both directions", async (t) => {
  const { proxy, client, server } = await connected(t);
  assert.equal(proxy.connections, 1);
  client.socket.write("question");
  await gets(server, "question");
  client.socket.end();
  await until("the client's end to be seen", server.ended);
  server.socket.end("answer");
  await gets(client, "answer");
  await isClosed(client, "none");
  await isClosed(server, "none");
  await until("the connection to be forgotten", () => proxy.connections === 0);
  assert.equal(proxy.accepted, 1);
});

test("a reset passes, in both directions", async (t) => {
  const { proxy, target, client, server } = await connected(t);
  client.socket.resetAndDestroy();
  await isClosed(server, "ECONNRESET");
  const other = await connect(t, proxy.port);
  (await target.next()).socket.resetAndDestroy();
  await isClosed(other, "ECONNRESET");
});

test("cut resets the connections that there are, and new ones pass", async (t) => {
  const { proxy, target, client, server } = await connected(t);
  proxy.cut();
  assert.equal(proxy.connections, 0);
  await isClosed(client, "ECONNRESET");
  await isClosed(server, "ECONNRESET");
  const again = await connect(t, proxy.port);
  again.socket.write("again");
  await gets(await target.next(), "again");
  assert.equal(proxy.connections, 1);
  assert.equal(proxy.accepted, 2);
});

test("refuse resets new connections too, until accept", async (t) => {
  const { proxy, target, client } = await connected(t);
  proxy.refuse();
  await isClosed(client, "ECONNRESET");
  for (let attempt = 0; attempt < 3; attempt++) await isClosed(dial(t, proxy.port), "ECONNRESET");
  assert.equal(target.ends.length, 1);
  proxy.accept();
  (await connect(t, proxy.port)).socket.write("hello");
  await gets(await target.next(), "hello");
});

test("a stalled link is silent in both directions, and gives all when it resumes", async (t) => {
  const { proxy, target, client, server } = await connected(t);
  client.socket.write("before");
  await gets(server, "before");
  proxy.stall();
  client.socket.write(", during");
  server.socket.write("answer");
  const late = await connect(t, proxy.port);
  late.socket.write("late");
  const lateServer = await target.next();
  await letTimePass(t, target);
  assert.deepEqual(
    [client, server, late, lateServer].map((end) => end.received()),
    ["", "before", "", ""],
  );
  assert.deepEqual(
    [client, server, late, lateServer].map((end) => end.fault()),
    Array(4).fill(undefined),
  );
  proxy.resume();
  await gets(server, "before, during");
  await gets(client, "answer");
  await gets(lateServer, "late");
});

test("one direction stalls alone", async (t) => {
  const { proxy, target, client, server } = await connected(t);
  proxy.stall("toClient");
  client.socket.write("question");
  await gets(server, "question");
  server.socket.write("answer");
  await letTimePass(t, target);
  assert.equal(client.received(), "");
  proxy.resume();
  await gets(client, "answer");
  proxy.stall("toServer");
  server.socket.write(", more");
  await gets(client, "answer, more");
  client.socket.write("?");
  await letTimePass(t, target);
  assert.equal(server.received(), "question");
  proxy.stall("toClient");
  server.socket.write(", most");
  await letTimePass(t, target);
  assert.equal(client.received(), "answer, more");
});

test("over a stalled link no end sees the other go, until it resumes", async (t) => {
  const { proxy, target, client, server } = await connected(t);
  const other = await connect(t, proxy.port);
  const otherServer = await target.next();
  proxy.stall();
  server.socket.end("last words");
  otherServer.socket.resetAndDestroy();
  const third = await connect(t, proxy.port);
  const thirdServer = await target.next();
  third.socket.resetAndDestroy();
  await letTimePass(t, target);
  assert.equal(client.ended(), false);
  assert.deepEqual(
    [client, other, thirdServer].map((end) => end.fault()),
    Array(3).fill(undefined),
  );
  proxy.resume();
  await gets(client, "last words");
  await until("the server's end to be seen", client.ended);
  await isClosed(other, "ECONNRESET");
  await isClosed(thirdServer, "ECONNRESET");
});

test("a stalled link can be cut", async (t) => {
  const { proxy, client, server } = await connected(t);
  proxy.stall();
  client.socket.write("lost");
  proxy.cut();
  await isClosed(client, "ECONNRESET");
  await isClosed(server, "ECONNRESET");
  assert.equal(server.received(), "");
});

/** Larger than all buffers on the way. */
const large = "0123456789abcdef".repeat(1024 * 1024);

test("a reader that is late holds back who writes, and gets all", async (t) => {
  const { target, client, server } = await connected(t);
  client.socket.pause();
  server.socket.end(large);
  await letTimePass(t, target);
  assert.ok(server.socket.writableLength > 0);
  client.socket.resume();
  await until("all to be there", client.ended);
  assert.ok(client.received() === large);
});

test("what is on its way when the link stalls arrives whole", async (t) => {
  const { proxy, target, client, server } = await connected(t);
  client.socket.end(large);
  await until("the first of it", () => server.received() !== "");
  proxy.stall();
  await letTimePass(t, target);
  assert.ok(server.received().length < large.length);
  proxy.resume();
  await until("all to be there", server.ended);
  assert.ok(server.received() === large);
});

test("connections go where it points to when they are made", async (t) => {
  const { proxy, target, client, server } = await connected(t);
  const other = await startTarget(t);
  proxy.pointTo(other.port);
  (await connect(t, proxy.port)).socket.write("new");
  await gets(await other.next(), "new");
  client.socket.write("old");
  await gets(server, "old");
  assert.equal(target.ends.length, 1);
});

test("a target that is away resets the connection, and is found when it is back", async (t) => {
  const { proxy, target } = await connected(t);
  const away = net.createServer().listen(0, "127.0.0.1");
  await once(away, "listening");
  const { port } = away.address() as net.AddressInfo;
  away.close();
  await once(away, "close");
  proxy.pointTo(port);
  await isClosed(dial(t, proxy.port), "ECONNRESET");
  proxy.pointTo(target.port);
  (await connect(t, proxy.port)).socket.write("back");
  await gets(await target.next(), "back");
});

test("close resets what there is, once", async (t) => {
  const { proxy, client, server } = await connected(t);
  await within(Promise.all([proxy.close(), proxy.close()]), "the proxy to close");
  await within(proxy.close(), "a proxy that is closed");
  await isClosed(client, "ECONNRESET");
  await isClosed(server, "ECONNRESET");
  await assert.rejects(connect(t, proxy.port), { code: "ECONNREFUSED" });
});
