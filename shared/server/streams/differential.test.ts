import assert from "node:assert/strict";
import { type ClientHttp2Stream, constants, type OutgoingHttpHeaders } from "node:http2";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  type Answer,
  answerOf,
  connectHttp2,
  EchoService,
  echo,
  envelope,
  type Http2Client,
  seededRandom,
  startServer,
  type TestServer,
  until,
} from "#shared/testing";
import { type Seen, scriptedHandlers } from "./test-support.ts";

// The same bytes go to a server with the short path and to one without it. What the two answer must be the same:
//
// | what may differ                              | why                                                     |
// | -------------------------------------------- | ------------------------------------------------------- |
// | `date`                                       | it is the time                                          |
// | the order of headers                         | they are written as they come, and not sorted           |
// | how a body is cut into frames and chunks     | what needs no waiting is written at once                |

const READ_MAX_BYTES = 2_000;
const WRITE_MAX_BYTES = 3_000;
const EXPAND = `/${EchoService.typeName}/Expand`;
const COLLECT = `/${EchoService.typeName}/Collect`;
const CHAT = `/${EchoService.typeName}/Chat`;
const GRPC = { "content-type": "application/grpc", te: "trailers" };

interface Side {
  readonly server: TestServer;
  readonly client: Http2Client;
  readonly seen: Seen;
}

type Pair = readonly [fast: Side, stock: Side];

async function startPair(t: TestContext): Promise<Pair> {
  async function start(fast_path: boolean): Promise<Side> {
    const seen: Seen = { shortened: 0, heard: [] };
    const server = await startServer(t, {
      routes: (router) =>
        router.service(EchoService, {
          ...echo,
          ...scriptedHandlers(seen),
          echo({ value }, { responseHeader }) {
            if (value === "unwritable") responseHeader.set("transfer-encoding", "close");
            return { value };
          },
        }),
      fastify: (fastify) => {
        fastify.addHook("onRequest", async (_, reply) => {
          reply.header("x-hook", "set");
        });
      },
      config: { read_max_bytes: READ_MAX_BYTES, write_max_bytes: WRITE_MAX_BYTES, fast_path },
    });
    return { server, client: await connectHttp2(t, server.url), seen };
  }
  return await Promise.all([start(true), start(false)]);
}

const text = (value: string) => Buffer.from(toBinary(StringValueSchema, create(StringValueSchema, { value })));
const texts = (...values: string[]) => Buffer.concat(values.map((value) => envelope(text(value))));

interface Case {
  readonly name: string;
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

const codes = Object.values(Code).filter((code) => typeof code === "number");

const scripts = [
  "",
  "say:ada",
  "say:a;say:b;say:c",
  "say:ü€🎉",
  "say:",
  "many:1000",
  "many:3;wait;many:3;wait",
  "wait;wait;say:late",
  "metadata;say:a;say:b",
  "say:a;metadata;say:b",
  "metadata",
  "metadata;fail:10",
  "say:a;wait;metadata;fail:10",
  "seen",
  ...["connection", "te", "date"].flatMap((name) => [
    `unwritable:${name};say:a;say:b`,
    `listen;unwritable:${name}`,
    `unwritable:${name};fail:3`,
  ]),
  "listen;say:a",
  "listen;say:a;fail:3",
  "throw",
  "say:a;throw",
  "domain",
  "say:a;wait;domain",
  "bad",
  "say:a;bad",
  ...codes.flatMap((code) => [`fail:${code}`, `say:a;say:b;fail:${code}`, `say:a;wait;fail:${code}`]),
  ...[1_019, 1_020, 1_021, 1_022, 1_024, 2_996, 2_997, 2_998, 3_001].flatMap((size) => [
    `large:${size}`,
    `say:a;large:${size};say:b`,
  ]),
  "large:2000;".repeat(30),
];

function* ordinaryCases(): Generator<Case> {
  for (const script of scripts) {
    const name = script.slice(0, 30);
    for (const accept of [undefined, "gzip", "deflate, br", "identity"]) {
      const headers = { ...GRPC, "x-twice": "1, 2", ...(accept && { "grpc-accept-encoding": accept }) };
      yield { name: `expand ${name} ${accept}`, path: EXPAND, headers, body: texts(script) };
      if (accept === "gzip") continue;
      yield { name: `collect ${name} ${accept}`, path: COLLECT, headers, body: texts(script, "say:more") };
      yield { name: `chat ${name} ${accept}`, path: CHAT, headers, body: texts("say:first", script, "say:more") };
    }
  }
  for (const script of ["until", "until:own", "say:a;until", "say:a;wait;until:own"]) {
    const headers = { ...GRPC, "grpc-timeout": "60m" };
    for (const path of [EXPAND, CHAT]) yield { name: `${path} ${script}`, path, headers, body: texts(script) };
  }
  for (const path of [COLLECT, CHAT]) {
    yield { name: `${path} with nothing`, path, headers: GRPC, body: Buffer.alloc(0) };
    const many = texts(...Array.from({ length: 300 }, (_, index) => `say:${index}`));
    yield { name: `${path} with many`, path, headers: GRPC, body: many };
  }
  const type = { ...GRPC, "content-type": "application/grpc+proto", "grpc-encoding": "identity" };
  yield { name: "the type in full", path: EXPAND, headers: type, body: texts("seen") };
}

function* oddCases(): Generator<Case> {
  const body = texts("say:ada");
  const bodies: Record<string, Buffer> = {
    nothing: Buffer.alloc(0),
    "zero bytes": Buffer.alloc(5),
    "a lone prefix": body.subarray(0, 3),
    "a prefix and nothing": body.subarray(0, 5),
    "a cut message": body.subarray(0, body.length - 1),
    "trailing bytes": Buffer.concat([body, Buffer.from([0, 0])]),
    "trailing bytes of another kind": Buffer.concat([body, Buffer.from([1, 2])]),
    "two messages": texts("say:a", "say:b"),
    "a message, and one too large": Buffer.concat([body, texts("x".repeat(2_100))]),
    "a message, and a size that is a lie": Buffer.concat([body, Buffer.from("00ffffffff0a0161", "hex")]),
    "no protobuf": envelope(Buffer.from("\xff\xff\xff")),
    "a message, and no protobuf": Buffer.concat([body, envelope(Buffer.from("\xff\xff\xff"))]),
    "no UTF-8": envelope(Buffer.from("0a02fffe", "hex")),
    "unknown fields": envelope(Buffer.from("1203616263", "hex")),
  };
  for (const size of [1_994, 1_997, 1_998, 1_999, 2_000, 2_100, 9_000]) {
    bodies[`a value of ${size} bytes`] = texts("x".repeat(size));
  }
  for (const flags of [1, 2, 3, 0x80, 0x81, 0xff]) {
    bodies[`flags of ${flags}`] = envelope(text("say:ada"), flags);
    bodies[`a message, and flags of ${flags}`] = Buffer.concat([body, envelope(text("say:ada"), flags)]);
  }
  const changes: Record<string, OutgoingHttpHeaders> = {
    "a charset": { "content-type": "application/grpc; charset=utf-8" },
    "upper case": { "content-type": "APPLICATION/GRPC" },
    JSON: { "content-type": "application/grpc+json" },
    "gRPC-Web": { "content-type": "application/grpc-web+proto" },
    "another codec": { "content-type": "application/grpc+thrift" },
    "other content": { "content-type": "text/plain" },
    PUT: { ":method": "PUT" },
  };
  for (const path of [EXPAND, COLLECT, CHAT]) {
    for (const [name, bytes] of Object.entries(bodies)) {
      yield { name: `${path}: ${name}`, path, headers: GRPC, body: bytes };
    }
    for (const [name, more] of Object.entries(changes)) {
      yield { name: `${path}: ${name}`, path, headers: { ...GRPC, ...more }, body };
    }
    for (const value of ["1m", "40m", "0m", "1n", "5", "-1m", "soon", "99999999H"]) {
      const script = value === "99999999H" ? "say:in time" : "never";
      if (value === "1n") continue;
      const headers = { ...GRPC, "grpc-timeout": value };
      yield { name: `${path}: a timeout of ${value}`, path, headers, body: texts(script) };
    }
    for (const value of ["gzip", "br", "zip", "gzip, br", ""]) {
      const compress = value === "gzip" ? gzipSync : value === "br" ? brotliCompressSync : (bytes: Buffer) => bytes;
      const packed = compress(text("say:ada"));
      const sent = Buffer.concat([envelope(packed, value === "gzip" || value === "br" ? 1 : 0)]);
      yield { name: `${path}: encoding ${value}`, path, headers: { ...GRPC, "grpc-encoding": value }, body: sent };
    }
  }
}

function comparable({ status, headers, trailers, body, rstCode }: Answer) {
  const { date: _, ...rest } = headers;
  return { status, rstCode, headers: { ...rest }, trailers: { ...trailers }, body: body.toString("latin1") };
}

/** The lines of calls, without what is never twice the same. */
function calls({ log }: TestServer): string[] {
  return log.lines
    .filter(({ msg }) => ["call", "call failed", "request", "handler failed", "call refused"].includes(msg))
    .map(({ level, msg, method, code, status, grpc_status, aborted }) =>
      JSON.stringify({ level, msg, method, code, status, grpc_status, aborted }),
    )
    .toSorted();
}

async function assertSameEnds([fast, stock]: Pair, count: number): Promise<void> {
  const told = ({ server }: Side) => server.log.lines.filter(({ peer }) => peer !== undefined).length;
  await until("a line of each call", () => told(fast) === count && told(stock) === count);
  assert.deepEqual(calls(fast.server), calls(stock.server));
}

test("ordinary streams take the short path, and are answered and logged as by Connect's own handlers", async (t) => {
  const pair = await startPair(t);
  const [fast, stock] = pair;
  let count = 0;
  for (const { name, path, headers, body } of ordinaryCases()) {
    const [mine, theirs] = await Promise.all(pair.map(({ client }) => client.call(path, headers, body)));
    assert.deepEqual(comparable(mine as Answer), comparable(theirs as Answer), name);
    assert.deepEqual(fast.seen.heard.splice(0), stock.seen.heard.splice(0), name);
    count++;
    assert.equal(fast.seen.shortened, count, `${name} is not shortened`);
  }
  await assertSameEnds(pair, count);
});

test("odd streams are answered and logged as by Connect's own handlers", async (t) => {
  const pair = await startPair(t);
  let count = 0;
  for (const { name, path, headers, body } of oddCases()) {
    const [mine, stock] = await Promise.all(pair.map(({ client }) => client.call(path, headers, body)));
    assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), name);
    count++;
  }
  await assertSameEnds(pair, count);
});

test("messages in pieces and many in one are read as by Connect's own handlers", async (t) => {
  const pair = await startPair(t);
  const body = texts("say:one", `say:${"x".repeat(1_500)}`, "say:three", "fail:9", "say:never");
  const sizes = [1, 3, 7, 64, 400, body.length];
  for (const path of [EXPAND, COLLECT, CHAT]) {
    for (const size of sizes) {
      const bytes = path === EXPAND ? texts(`say:${"x".repeat(1_000)}`) : body;
      const answers = pair.map(async ({ client }) => {
        const stream = client.open(path, GRPC);
        const answer = answerOf(stream);
        for (let at = 0; at < bytes.length; at += size) {
          stream.write(bytes.subarray(at, at + size));
          if (at % 100 < size) await setImmediate();
        }
        stream.end();
        return await answer;
      });
      const [mine, stock] = await Promise.all(answers);
      assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), `${path} in pieces of ${size}`);
    }
  }
});

test("bodies of any bytes in any pieces are answered as by Connect's own handlers", async (t) => {
  const pair = await startPair(t);
  const random = seededRandom(20_251_125);
  const below = (limit: number) => Math.floor(random() * limit);
  for (let round = 0; round < 400; round++) {
    const path = [EXPAND, COLLECT, CHAT][below(3)] as string;
    const script = () => ["", "say:a", "say:b;say:c", "fail:5", `say:${"x".repeat(below(2_100))}`][below(5)] as string;
    let body = texts(script(), ...(path === EXPAND && random() < 0.9 ? [] : [script(), script()]));
    const changes = below(3);
    for (let i = 0; i < changes && body.length > 0; i++) {
      body = Buffer.from(body);
      const at = below(Math.min(body.length, random() < 0.5 ? 6 : body.length));
      const kind = below(4);
      if (kind === 0) body[at] = below(256);
      else if (kind === 1) body = body.subarray(0, at);
      else if (kind === 2) body = Buffer.concat([body, Buffer.from([below(256)])]);
      else body = Buffer.concat([body, body.subarray(at)]);
    }
    const pieces: Buffer[] = [];
    for (let at = 0; at < body.length; ) {
      const length = random() < 0.3 ? 1 : 1 + below(body.length);
      pieces.push(body.subarray(at, at + length));
      at += length;
    }
    const answers = pair.map(async ({ client }) => {
      const stream = client.open(path, GRPC);
      const answer = answerOf(stream);
      for (const piece of pieces.slice(0, 8)) {
        stream.write(piece);
        // Each a chunk of its own: what is whole before a chunk that is not is handed on by either.
        await new Promise((resolve) => client.session.ping(resolve));
      }
      stream.end(Buffer.concat(pieces.slice(8)));
      return await answer;
    });
    const [mine, stock] = await Promise.all(answers);
    const name = `round ${round}: ${path} ${pieces.map((piece) => piece.toString("hex")).join(" ")}`;
    assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), name);
  }
  const [fast] = pair;
  assert.ok(fast.seen.shortened > 200, `${fast.seen.shortened} calls took the short path`);
});

test("a chat goes to and fro", async (t) => {
  const pair = await startPair(t);
  for (const { client } of pair) {
    const stream = client.open(CHAT, GRPC);
    const answer = answerOf(stream);
    let received = "";
    stream.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
    });
    for (const word of ["one", "two", "three"]) {
      stream.write(texts(`say:${word}`));
      await until(`the answer to ${word}`, () => received.includes(word));
    }
    stream.end();
    assert.equal((await answer).trailers["grpc-status"], "0");
  }
});

const scriptsToLeave = ["say:a", "listen;never", "say:a;never", "say:a;until", "until:own"];

for (const code of [constants.NGHTTP2_CANCEL, constants.NGHTTP2_NO_ERROR]) {
  test(`callers that leave with ${code} are told of and logged the same, and the handlers are closed`, async (t) => {
    const pair = await startPair(t);
    let count = 0;
    for (const path of [EXPAND, CHAT, COLLECT]) {
      for (const script of scriptsToLeave) {
        for (const end of [true, false]) {
          if (path === EXPAND && !end) continue;
          await Promise.all(pair.map((side) => leave(side, path, script, code, end)));
          count++;
          await Promise.all(pair.map(settle));
          const [mine, stock] = pair.map(({ seen }) => seen.heard.splice(0));
          assert.deepEqual(mine, stock, `${path} ${script} ${end}`);
        }
      }
    }
    await assertSameEnds(pair, count);
  });
}

/** Until its handlers hear nothing more. */
async function settle({ client, seen }: Side): Promise<void> {
  let before = -1;
  for (let rounds = 0; rounds < 5; rounds++) {
    if (seen.heard.length !== before) rounds = 0;
    before = seen.heard.length;
    await new Promise((resolve) => client.session.ping(resolve));
  }
}

async function leave({ client }: Side, path: string, script: string, code: number, end: boolean): Promise<void> {
  const stream: ClientHttp2Stream = client.open(path, GRPC);
  stream.resume();
  stream.write(texts(script));
  if (end) stream.end();
  // On to its handler.
  for (let pings = 0; pings < 3; pings++) await new Promise((resolve) => client.session.ping(resolve));
  stream.close(code);
  await answerOf(stream);
}

for (const ends of [true, false]) {
  test(`what a handler has left reading ends with its call, whose caller has ${ends ? "" : "not "}ended`, async (t) => {
    const pair = await startPair(t);
    const heard = await Promise.all(
      pair.map(async (side) => {
        const stream = side.client.open(CHAT, { ...GRPC, "x-leave-reading": "1" });
        const answer = answerOf(stream);
        stream.write(texts("say:a"));
        if (ends) stream.end();
        const { trailers } = await answer;
        assert.equal(trailers["grpc-status"], "0");
        await settle(side);
        return side.seen.heard;
      }),
    );
    assert.deepEqual(heard[0], heard[1]);
  });
}

test("a caller that goes silent in the middle of its messages has its deadline", async (t) => {
  const pair = await startPair(t);
  for (const path of [EXPAND, COLLECT, CHAT]) {
    const answers = pair.map(({ client }) => {
      const stream = client.open(path, { ...GRPC, "grpc-timeout": "50m" });
      stream.write(Buffer.concat([path === EXPAND ? Buffer.alloc(0) : texts("say:a"), Buffer.from([0, 0, 0, 0, 9])]));
      return answerOf(stream);
    });
    const [mine, stock] = await Promise.all(answers);
    assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), path);
    assert.equal(mine?.trailers["grpc-status"], "4");
  }
});

test("a header that HTTP/2 does not have fails its call, is logged, and the connection goes on", async (t) => {
  const pair = await startPair(t);
  for (const { client, server, seen } of pair) {
    for (const script of ["unwritable:transfer-encoding;listen;say:a", "unwritable:transfer-encoding;fail:3"]) {
      const { status } = await client.call(EXPAND, GRPC, texts(script));
      assert.equal(status, 500);
      await server.log.line({ level: "error", method: EXPAND.slice(1), msg: "call cannot be answered" });
    }
    assert.ok(seen.heard.some((word) => word.startsWith("aborted")));
    const unary = await client.call(EXPAND.replace("Expand", "Echo"), GRPC, texts("unwritable"));
    assert.equal(unary.status, 500);
    assert.equal((await client.call(EXPAND, GRPC, texts("say:a"))).trailers["grpc-status"], "0");
  }
});

test("a shutdown ends streams as Connect's own handlers do", async (t) => {
  const answers = [true, false].map(async (fast_path) => {
    const seen: Seen = { shortened: 0, heard: [] };
    const server = await startServer(t, {
      routes: (router) => router.service(EchoService, { ...echo, ...scriptedHandlers(seen) }),
      config: { shutdown_timeout: "1ms", fast_path },
    });
    const client = await connectHttp2(t, server.url);
    const open = [EXPAND, COLLECT, CHAT].map((path) => {
      const stream = client.open(path, GRPC);
      stream.write(texts("say:a;until"));
      if (path === EXPAND) stream.end();
      return answerOf(stream);
    });
    for (let pings = 0; pings < 3; pings++) await new Promise((resolve) => client.session.ping(resolve));
    await server.stop();
    return (await Promise.all(open)).map(comparable);
  });
  const [mine, stock] = await Promise.all(answers);
  assert.deepEqual(mine, stock);
  assert.deepEqual(
    mine?.map(({ trailers }) => trailers["grpc-status"]),
    ["14", "14", "14"],
  );
});
