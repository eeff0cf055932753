import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { createServer } from "#shared/server";
import {
  answerOf,
  connectHttp2,
  connectTcp,
  EchoService,
  echo,
  envelope,
  errorOf,
  frame,
  frameTypes,
  headerBlock,
  http2Preface,
  recordLog,
  serverConfig,
  startServer,
  until,
  within,
} from "#shared/testing";

const ECHO = "/testing.v1.EchoService/Echo";
const ACK = 0x1;
const message = Buffer.from([0x0a, 1, 0x61]);
const call = Buffer.concat([
  frame(
    frameTypes.headers,
    0x4,
    1,
    headerBlock({
      ":method": "POST",
      ":scheme": "http",
      ":authority": "x",
      ":path": ECHO,
      "content-type": "application/grpc",
    }),
  ),
  frame(frameTypes.data, 0x1, 1, envelope(message)),
]);

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** An HTTP/2 connection by hand, past the exchange of settings. */
async function connectByHand(t: TestContext, port: number) {
  const client = await connectTcp(t, port);
  const frames = () => {
    const bytes = client.received();
    const list: Frame[] = [];
    for (let at = 0; at + 9 <= bytes.length; ) {
      const end = at + 9 + bytes.readUIntBE(at, 3);
      list.push({
        type: bytes.readUInt8(at + 3),
        flags: bytes.readUInt8(at + 4),
        streamId: bytes.readUInt32BE(at + 5),
        payload: bytes.subarray(at + 9, end),
      });
      at = end;
    }
    return list;
  };
  const goAways = () => frames().filter(({ type }) => type === frameTypes.goaway);
  const pings = () => frames().filter(({ type, flags }) => type === frameTypes.ping && flags === 0);
  client.socket.write(Buffer.concat([http2Preface, frame(frameTypes.settings, 0, 0)]));
  await until("the server's settings", () => frames().some(({ type, flags }) => type === 4 && flags === 0));
  client.socket.write(frame(frameTypes.settings, ACK, 0));
  return { ...client, frames, goAways, pings };
}

function lastStreamOf(goAway: Frame | undefined): number | undefined {
  return goAway?.payload.readUInt32BE(0);
}

test("an idle connection that has got notice still takes the call that crossed it on the wire", async (t) => {
  const server = await startServer(t, { config: { shutdown_timeout: "60s" } });
  const { socket, frames, goAways, pings, closed } = await connectByHand(t, server.port);

  const stopped = server.stop();
  await until("the notice and its ping", () => goAways().length === 1 && pings().length === 1);
  assert.equal(lastStreamOf(goAways()[0]), 2 ** 31 - 1);
  // Sent before the notice was read: the ping is not answered yet.
  socket.write(call);
  await until("its answer", () => frames().some(({ type, streamId }) => type === frameTypes.data && streamId === 1));

  socket.write(frame(frameTypes.ping, ACK, 0, pings()[0]?.payload));
  await until("the last word", () => goAways().length > 1);
  assert.equal(lastStreamOf(goAways().at(-1)), 1);
  await within(closed, "the end of the connection");
  await within(stopped, "the stop");
});

test("a client that does not answer the ping does not hold the stop", async (t) => {
  const server = await startServer(t, { config: { shutdown_timeout: "60s" } });
  await connectByHand(t, server.port);
  await within(server.stop(), "the stop", 10_000);
});

test("idle connections close at once, without waiting for any timeout", async (t) => {
  const times: number[] = [];
  for (let i = 0; i < 4; i++) {
    const server = await startServer(t, { config: { shutdown_timeout: "60s" } });
    const client = createClient(EchoService, createGrpcTransport({ baseUrl: server.url }));
    await client.echo({ value: "ada" });
    await fetch(`${server.url}/livez`).then((response) => response.text());
    const startedAt = performance.now();
    await within(server.stop(), "the stop");
    times.push(performance.now() - startedAt);
  }
  assert.ok(Math.min(...times) < 500, `${times.map(Math.round)} ms`);
});

test("an answer during the drain tells an HTTP/1.1 client to go", async (t) => {
  const gate = Promise.withResolvers<void>();
  const server = await startServer(t, {
    config: { shutdown_timeout: "60s" },
    fastify: (fastify) =>
      void fastify.get("/slow", async () => {
        await gate.promise;
        return "done";
      }),
  });
  const { socket, received, closed } = await connectTcp(t, server.port);
  socket.write("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
  // A request behind it on the wire shows that the first has been taken.
  await until("the request", async () => (await fetch(`${server.url}/livez`)).ok);
  const stopped = server.stop();
  await until("the drain", async () => (await fetch(`${server.url}/livez`).catch(() => undefined)) === undefined);
  gate.resolve();
  await within(closed, "the end of the connection");
  assert.match(received().toString(), /^HTTP\/1\.1 200 OK\r\n.*connection: close\r\n.*done$/is);
  await within(stopped, "the stop");
});

test("a reflection stream that is held open does not hold the drain", async (t) => {
  const server = await startServer(t, { config: { shutdown_timeout: "60s" } });
  const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: server.url }));
  const gate = Promise.withResolvers<void>();
  t.after(() => gate.resolve());
  async function* requests() {
    yield { messageRequest: { case: "listServices", value: "" } as const };
    await gate.promise;
  }
  const answers = client.serverReflectionInfo(requests())[Symbol.asyncIterator]();
  await within(answers.next(), "the first answer");
  const end = answers.next().then(
    () => undefined,
    (error: unknown) => ConnectError.from(error).code,
  );
  await within(server.stop(), "the stop");
  assert.equal(await end, Code.Unavailable);
});

test("a call whose message never comes ends with UNAVAILABLE too", async (t) => {
  const server = await startServer(t, { config: { shutdown_timeout: "50ms" } });
  const { open } = await connectHttp2(t, server.url);
  const stream = open(ECHO, { "content-type": "application/grpc" });
  stream.write(Buffer.of(0));
  await until("the connection", async () => (await fetch(`${server.url}/livez`)).ok);
  const answer = answerOf(stream);
  await within(server.stop(), "the stop");
  assert.equal(errorOf(await answer).code, "unavailable");
});

test("a second stop that is told to hurry ends the first one's waiting", async (t) => {
  let isFired = false;
  const began = Promise.withResolvers<void>();
  const server = await startServer(t, {
    config: { drain_delay: "60s", shutdown_timeout: "60s" },
    routes: (router) =>
      router.service(EchoService, {
        ...echo,
        async echo(_request, { signal }) {
          signal.addEventListener("abort", () => {
            isFired = true;
          });
          began.resolve();
          return new Promise<never>(() => {});
        },
      }),
  });
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: server.url }));
  const failed = client.echo({}).catch((error: unknown) => ConnectError.from(error));
  await began.promise;
  const first = server.stop();
  const hurry = new AbortController();
  const second = server.stop(hurry.signal);
  hurry.abort();
  await within(Promise.all([first, second]), "both stops", 5_000);
  assert.ok((await failed) instanceof ConnectError);
  assert.ok(isFired);
});

test("a server can be stopped without a start, and is not started after", async () => {
  const readiness = createReadiness();
  const server = createServer({
    config: serverConfig({ drain_delay: "60s" }),
    logger: recordLog().logger,
    readiness,
    routes: (router) => router.service(EchoService, echo),
  });
  assert.throws(() => server.url);
  await within(server.stop(), "the stop");
  assert.equal(readiness.state().ready, false);
  await assert.rejects(server.start());
});

test("a stop while the start is under way leaves nothing open", async () => {
  const server = createServer({
    config: serverConfig(),
    logger: recordLog().logger,
    readiness: createReadiness(),
    routes: (router) => router.service(EchoService, echo),
  });
  const started = server.start();
  const failed = assert.rejects(started);
  await within(server.stop(), "the stop");
  await within(failed, "the start");
  // And the process can end: node:test waits for nothing that is still open here.
  assert.throws(() => server.url);
});
