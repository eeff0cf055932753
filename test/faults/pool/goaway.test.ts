// Servers that send GOAWAY at any moment, while a pool calls them.

import assert from "node:assert/strict";
import { once } from "node:events";
import { constants, createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { EchoService, echo, recordLog, seededRandom } from "#shared/testing";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { RETRY } from "../support/book-service.ts";
import { assertNoFailures, type Load, startLoad } from "../support/load.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_ENHANCE_YOUR_CALM } = constants;
const LARGEST_STREAM_ID = 2 ** 31 - 1;
const seed = Number(process.env["SEED"] ?? Date.now() % 1e9);

/** A server of stock Connect, and its connections. Each answer takes some milliseconds, so that some are always on their way. */
async function startConnectServer(t: TestContext, random: () => number) {
  const sessions = new Set<ServerHttp2Session>();
  const late = async ({ value }: { readonly value: string }) => {
    await delay(random() * 10);
    return { value };
  };
  const server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(EchoService, { ...echo, echo: late, read: late }) }),
  );
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    session.on("error", () => {}); // Its peer sees it too.
  });
  t.after(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, sessions };
}

function clientForTest(t: TestContext, address: string | readonly string[], retry: object | undefined = RETRY) {
  const config = grpcClientsSection.parse({ services: [{ name: "echo", address, retry }] });
  const pool = createTransportPool(config, { logger: recordLog("silent").logger, caller: "test", closeTimeoutMs: 0 });
  t.after(() => pool.close());
  return pool.client("echo", EchoService);
}

const reading = (client: Client<typeof EchoService>) => async (n: number) => {
  assert.equal((await client.read({ value: String(n) })).value, String(n));
};
const writing = (client: Client<typeof EchoService>) => async (n: number) => {
  assert.equal((await client.echo({ value: String(n) })).value, String(n));
};

/** How a server may end a connection and let its calls finish. */
const orderly: Readonly<Record<string, (session: ServerHttp2Session) => void>> = {
  "a GOAWAY": (session) => session.goaway(NGHTTP2_NO_ERROR),
  "close()": (session) => session.close(),
  "a GOAWAY for all streams, and then one for those that have come": (session) => {
    session.goaway(NGHTTP2_NO_ERROR, LARGEST_STREAM_ID);
    setTimeout(() => session.destroyed || session.close(), 5);
  },
  "a GOAWAY for all streams, and then close() when they are done": (session) => {
    session.goaway(NGHTTP2_NO_ERROR, LARGEST_STREAM_ID);
    setTimeout(() => session.destroyed || session.close(), 100);
  },
};

/** How it may end one and leave its calls without an answer. */
const rude: Readonly<Record<string, (session: ServerHttp2Session) => void>> = {
  "destroy()": (session) => session.destroy(),
  "a GOAWAY with an error": (session) => session.destroy(undefined, NGHTTP2_ENHANCE_YOUR_CALM),
};

/** Ends connections in one of these ways, each in the midst of calls: a call may be hit, but not time and again. */
async function torment(
  load: Load,
  servers: readonly { readonly sessions: ReadonlySet<ServerHttp2Session> }[],
  ways: readonly ((session: ServerHttp2Session) => void)[],
  { random, times }: { readonly random: () => number; readonly times: number },
): Promise<void> {
  for (let done = 0; done < times; ) {
    await load.more(100);
    await delay(random() * 20);
    const open = servers.flatMap(({ sessions }) => [...sessions]).filter(({ closed }) => !closed);
    const session = open[Math.floor(random() * open.length)];
    const way = ways[Math.floor(random() * ways.length)];
    if (session === undefined || way === undefined) continue;
    way(session);
    done++;
  }
}

for (const [name, way] of Object.entries(orderly)) {
  for (const count of [1, 3]) {
    test(`7: connections to ${count} server(s) end by ${name}, at any moment: no call fails, not even of those that may not be sent twice`, async (t) => {
      t.diagnostic(`SEED=${seed}`);
      const random = seededRandom(seed);
      const servers = await Promise.all(Array.from({ length: count }, () => startConnectServer(t, random)));
      const client = clientForTest(
        t,
        servers.map(({ address }) => address),
      );
      const [reads, writes] = [reading(client), writing(client)];
      const load = startLoad((n) => (n % 2 === 0 ? reads(n) : writes(n)), { pauseMs: 0 });
      t.after(() => load.stop());
      await load.more(100);
      await torment(load, servers, [way], { random, times: 30 });
      await load.more(100);
      await assertNoFailures(load);
    });
  }
}

test("7: connections to three servers end in every way, at any moment: no call fails that may be sent twice", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const servers = await Promise.all(Array.from({ length: 3 }, () => startConnectServer(t, random)));
  const client = clientForTest(
    t,
    servers.map(({ address }) => address),
  );
  const load = startLoad(reading(client), { pauseMs: 0 });
  t.after(() => load.stop());
  await load.more(100);
  const ways = [...Object.values(orderly), ...Object.values(rude)];
  await torment(load, servers, ways, { random, times: 60 });
  await load.more(100);
  await assertNoFailures(load);
});

test("7: grpc-js servers whose connections grow old after a moment (MAX_CONNECTION_AGE): no call fails, not even of those that may not be sent twice", async (t) => {
  const servers = await Promise.all(Array.from({ length: 3 }, () => startGrpcJsServer(t)));
  const client = clientForTest(t, servers);
  const load = startLoad(writing(client), { pauseMs: 0 });
  t.after(() => load.stop());
  await load.more(100);
  await delay(4_000);
  await load.more(100);
  await assertNoFailures(load);
});

async function startGrpcJsServer(t: TestContext): Promise<string> {
  const server = new grpc.Server({ "grpc.max_connection_age_ms": 150, "grpc.max_connection_age_grace_ms": 2_000 });
  const method = {
    path: `/${EchoService.typeName}/${EchoService.method.echo.name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: string) => Buffer.from(toBinary(StringValueSchema, textOf(value))),
    requestDeserialize: (bytes: Buffer) => fromBinary(StringValueSchema, bytes).value,
    responseSerialize: (value: string) => Buffer.from(toBinary(StringValueSchema, textOf(value))),
    responseDeserialize: (bytes: Buffer) => fromBinary(StringValueSchema, bytes).value,
  };
  server.addService(
    { echo: method },
    {
      echo: (call: grpc.ServerUnaryCall<string, string>, answer: grpc.sendUnaryData<string>) => {
        setTimeout(() => answer(null, call.request), 5);
      },
    },
  );
  t.after(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return `127.0.0.1:${port}`;
}

function textOf(value: string) {
  return create(StringValueSchema, { value });
}
