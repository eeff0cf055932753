import assert from "node:assert/strict";
import type { OutgoingHttpHeaders } from "node:http2";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, encodeBinaryHeader, type HandlerContext } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import { DomainError } from "#shared/errors";
import {
  type Answer,
  answerOf,
  callHttp1,
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
import { LazyHeaders } from "#shared/unread";

// The same bytes go to a server with the short path and to one without it. What the two answer must be the same:
//
// | what may differ                              | why                                                     |
// | -------------------------------------------- | ------------------------------------------------------- |
// | `date`                                       | it is the time                                          |
// | the order of headers                         | they are written as they come, and not sorted           |
// | the signal after an answer that went well    | it fires only for those who listen to it by then; those |
// |                                              | made of it by AbortSignal.any are not seen              |
// | how a body is cut into frames and chunks     | it is written whole                                     |
// | the stream's end after a body that went on   | a reset there may come before or after the answer's end |

const READ_MAX_BYTES = 2_000;
const WRITE_MAX_BYTES = 3_000;
const PATH = `/${EchoService.typeName}/Echo`;

interface Text {
  readonly value: string;
}

/** What the handler does is what its message says. */
async function act({ value }: Text, context: HandlerContext): Promise<{ value: string }> {
  const [verb = "", argument = ""] = value.split(":");
  const { responseHeader, responseTrailer, signal } = context;
  switch (verb) {
    case "fail": {
      const metadata = new Headers({ "x-why": "one", "x-raw-bin": encodeBinaryHeader(Uint8Array.of(0, 255)) });
      metadata.append("x-why", "two");
      metadata.set("content-type", "text/none");
      const detail = { desc: StringValueSchema, value: { value: "a detail: ü" } };
      throw new ConnectError(`no: ü % ${argument}`, Number(argument), metadata, [detail]);
    }
    case "throw":
      throw new Error("a secret");
    case "domain":
      throw new DomainError("not_found", "GONE", "niemand da: ü", { metadata: { id: "7" } });
    case "metadata":
      responseHeader.append("x-note", "one");
      responseHeader.append("x-note", "two");
      responseHeader.set("x-raw-bin", encodeBinaryHeader(Uint8Array.of(1, 2, 3)));
      responseHeader.append("set-cookie", "a=1");
      responseHeader.append("set-cookie", "b=2");
      responseTrailer.append("x-end", "3");
      responseTrailer.append("x-end", "4");
      if (argument === "fail") throw new ConnectError("after all", Code.Aborted, { "x-note": "three" });
      return { value };
    case "seen":
      return { value: seenBy(context) };
    case "large":
      return { value: "y".repeat(Number(argument)) };
    case "never":
      await new Promise(() => {});
      return { value };
    case "until":
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      throw signal.reason;
    default:
      return { value };
  }
}

function seenBy(context: HandlerContext): string {
  const { service, method, requestMethod, protocolName, url, requestHeader, signal } = context;
  const timeoutMs = context.timeoutMs();
  return JSON.stringify({
    names: [service.typeName, method.name, requestMethod, protocolName, new URL(url).pathname],
    headers: [...requestHeader].filter(([name]) => name !== "host"),
    copied: [...new Headers(requestHeader)].length === [...requestHeader].length,
    missing: [requestHeader.get("x-none"), requestHeader.has("X-None"), requestHeader.get("X-Twice")],
    hasTime: timeoutMs !== undefined && timeoutMs > 0 && timeoutMs <= 30_000,
    aborted: signal.aborted,
  });
}

interface Pair {
  readonly servers: readonly [fast: TestServer, stock: TestServer];
  readonly clients: readonly [fast: Http2Client, stock: Http2Client];
  /** How many calls have come to the handler by the short path. */
  shortened(): number;
}

/** Without any, an answer over HTTP/2 is written in a way of its own. */
const withAndWithout = ["hooks", "no hooks"] as const;
type Hooks = (typeof withAndWithout)[number];

function addHook(fastify: FastifyInstance): void {
  fastify.addHook("onRequest", async (_, reply) => {
    reply.header("x-hook", "set");
  });
}

async function startPair(t: TestContext, hooks: Hooks): Promise<Pair> {
  let shortened = 0;
  function routes(router: ConnectRouter): void {
    const counted = (message: Text, context: HandlerContext) => {
      if (context.requestHeader instanceof LazyHeaders) shortened++;
      return act(message, context);
    };
    router.service(EchoService, { ...echo, echo: counted, read: counted });
  }
  const start = (fast_path: boolean) =>
    startServer(t, {
      routes,
      ...(hooks === "hooks" ? { fastify: addHook } : {}),
      config: { read_max_bytes: READ_MAX_BYTES, write_max_bytes: WRITE_MAX_BYTES, max_timeout: "2s", fast_path },
    });
  const servers = await Promise.all([start(true), start(false)]);
  const clients = await Promise.all([connectHttp2(t, servers[0].url), connectHttp2(t, servers[1].url)]);
  return { servers, clients, shortened: () => shortened };
}

const proto = (value: string) => Buffer.from(toBinary(StringValueSchema, create(StringValueSchema, { value })));
const json = (value: string) => Buffer.from(JSON.stringify(value));

interface Speech {
  readonly contentType: string;
  readonly timeout: string;
  readonly encoding: string;
  readonly accept: string;
  message(value: string): Buffer;
  frame(message: Buffer): Buffer;
}

const framed = {
  timeout: "grpc-timeout",
  encoding: "grpc-encoding",
  accept: "grpc-accept-encoding",
  message: proto,
  frame: (message: Buffer) => envelope(message),
};
const plain = {
  timeout: "connect-timeout-ms",
  encoding: "content-encoding",
  accept: "accept-encoding",
  frame: (message: Buffer) => message,
};
const speeches: readonly Speech[] = [
  { contentType: "application/grpc", ...framed },
  { contentType: "application/grpc-web+proto", ...framed },
  { contentType: "application/proto", message: proto, ...plain },
  { contentType: "application/json", message: json, ...plain },
];

interface Case {
  readonly name: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

const codes = Object.values(Code).filter((code) => typeof code === "number");

function* ordinaryCases(): Generator<Case> {
  const values = [
    "",
    "ada",
    "ü€🎉",
    "metadata:",
    "metadata:fail",
    "seen:",
    "throw:",
    "domain:",
    "until:",
    ...codes.map((code) => `fail:${code}`),
    ...[1_000, 1_020, 1_021, 1_022, 1_023, 1_024, 1_025, 2_990, 2_996, 2_997, 2_998, 3_001].map((n) => `large:${n}`),
    "x".repeat(1_900),
  ];
  for (const { contentType, timeout, accept, message, frame } of speeches) {
    for (const value of values) {
      const headers = {
        "content-type": contentType,
        te: "trailers",
        "x-twice": "1, 2",
        ...(value === "until:" ? { [timeout]: contentType.includes("grpc") ? "60m" : "60" } : {}),
      };
      const body = frame(message(value));
      const name = `${contentType}: ${value.slice(0, 20)}`;
      yield { name, headers, body };
      yield {
        name: `${name}, may be compressed`,
        headers: { ...headers, [accept]: "deflate, gzip,br" },
        body,
      };
    }
  }
}

function* oddCases(): Generator<Case> {
  for (const { contentType, timeout, encoding, message, frame } of speeches) {
    const isGrpc = contentType.includes("grpc");
    const headers = { "content-type": contentType, te: "trailers" };
    const body = frame(message("ada"));
    const of = (name: string) => `${contentType}: ${name}`;
    const ms = (value: number) => (isGrpc ? `${value}m` : String(value));
    for (const value of [ms(1), ms(40), ms(0)]) {
      yield {
        name: of(`out of time after ${value}`),
        headers: { ...headers, [timeout]: value },
        body: frame(message("never:")),
      };
    }
    const timeouts = isGrpc
      ? ["99999999H", "100000000m", "1n", "999u", "5", "-1m", "1.5S", "soon", " 5S ", "5S, 6S"]
      : ["9999999999", "99999999999", "-1", "1.5", "soon", "1e3", " 500 ", "5, 6"];
    for (const value of timeouts) {
      // Which of the two comes first for an answer that is due at once is not to be known.
      const does = value === "1n" || value === "999u" ? "never:" : "ada";
      yield {
        name: of(`a timeout of ${value}`),
        headers: { ...headers, [timeout]: value },
        body: frame(message(does)),
      };
    }
    for (const size of [1_988, 1_990, 1_992, 1_994, 1_996, 1_997, 1_998, 1_999, 2_000, 2_001, 2_100, 9_000]) {
      yield { name: of(`a value of ${size} bytes`), headers, body: frame(message("x".repeat(size))) };
    }
    const bodies: Record<string, Buffer> = {
      nothing: Buffer.alloc(0),
      "zero bytes": Buffer.alloc(5),
      "a lone prefix": body.subarray(0, 3),
      "a cut message": body.subarray(0, body.length - 1),
      "trailing bytes": Buffer.concat([body, Buffer.from([1, 2])]),
      "two messages": Buffer.concat([body, body]),
      "a message and nothing": Buffer.concat([body, Buffer.alloc(5)]),
      "no protobuf": frame(Buffer.from("\xff\xff\xff")),
      "no UTF-8": frame(
        isGrpc || contentType.includes("proto") ? Buffer.from("0a02fffe", "hex") : Buffer.from("22fffe22", "hex"),
      ),
      "no JSON": frame(Buffer.from("{")),
      "JSON of another type": frame(Buffer.from("7")),
      "unknown fields": frame(Buffer.from("12036162630a0161", "hex")),
      "a size that is a lie": Buffer.from("00ffffffff0a0161", "hex"),
    };
    for (const flags of [1, 2, 3, 0x80, 0x81, 0xff]) bodies[`flags of ${flags}`] = envelope(message("ada"), flags);
    for (const [name, bytes] of Object.entries(bodies)) yield { name: of(name), headers, body: bytes };
    for (const value of ["identity", "gzip", "br", "zip", "gzip, br", ""]) {
      const compress = value === "gzip" ? gzipSync : value === "br" ? brotliCompressSync : (bytes: Buffer) => bytes;
      const packed = compress(message("ada"));
      const sent = isGrpc ? envelope(packed, packed.equals(message("ada")) ? 0 : 1) : packed;
      yield { name: of(`encoding ${value}`), headers: { ...headers, [encoding]: value }, body: sent };
    }
    const changes: Record<string, OutgoingHttpHeaders> = {
      "a charset": { "content-type": `${contentType}; charset=utf-8` },
      "upper case": { "content-type": contentType.toUpperCase() },
      "another codec": { "content-type": `${contentType}+thrift` },
      "a version": { "connect-protocol-version": "1" },
      "a later version": { "connect-protocol-version": "2" },
      "a query": { ":path": `${PATH}?connect=v1&encoding=json` },
      PUT: { ":method": "PUT" },
      "a padded header": { "x-twice": "  padded  " },
      "other content": { "content-type": "text/plain" },
    };
    for (const [name, more] of Object.entries(changes)) {
      yield { name: of(name), headers: { ...headers, ...more }, body: frame(message("seen:")) };
    }
  }
  yield { name: "gRPC with JSON", headers: { "content-type": "application/grpc+json" }, body: envelope(json("ada")) };
  yield {
    name: "gRPC-Web text",
    headers: { "content-type": "application/grpc-web-text" },
    body: envelope(proto("ada")),
  };
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

async function assertSameLog({ servers: [fast, stock] }: Pair, count: number): Promise<void> {
  const told = ({ log }: TestServer) => log.lines.filter(({ peer }) => peer !== undefined).length;
  await until("a line of each call", () => told(fast) === count && told(stock) === count);
  assert.deepEqual(calls(fast), calls(stock));
}

for (const hooks of withAndWithout) {
  test(`ordinary calls take the short path, and are answered and logged as by Connect's own handlers, ${hooks}`, async (t) => {
    const pair = await startPair(t, hooks);
    let count = 0;
    for (const { name, headers, body } of ordinaryCases()) {
      const [mine, stock] = await Promise.all(pair.clients.map((client) => client.call(PATH, headers, body)));
      assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), name);
      count++;
      assert.equal(pair.shortened(), count, `${name} is not shortened`);
    }
    await assertSameLog(pair, count);
  });
}

for (const hooks of withAndWithout) {
  test(`odd calls are answered and logged as by Connect's own handlers, ${hooks}`, async (t) => {
    const pair = await startPair(t, hooks);
    let count = 0;
    for (const { name, headers, body } of oddCases()) {
      const [mine, stock] = await Promise.all(pair.clients.map((client) => client.call(PATH, headers, body)));
      assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), name);
      count++;
    }
    await assertSameLog(pair, count);
  });
}

test("HTTP/1.1 is answered as by Connect's own handlers", async (t) => {
  const pair = await startPair(t, "hooks");
  for (const { name, headers, body } of [...ordinaryCases(), ...oddCases()]) {
    const { te: _, ":path": path = PATH, ...rest } = headers;
    for (const sized of [{ "content-length": body.length }, { "transfer-encoding": "chunked" }]) {
      if (body.length > READ_MAX_BYTES + 5) continue;
      const [mine, stock] = await Promise.all(
        pair.servers.map(({ url }) => callHttp1(url, String(path), { ...rest, ...sized }, body)),
      );
      assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), name);
    }
  }
});

for (const hooks of withAndWithout) {
  test(`callers that leave, and those that stop half-way, are logged the same, ${hooks}`, async (t) => {
    const pair = await startPair(t, hooks);
    const headers = { "content-type": "application/grpc", te: "trailers" };
    const bytes = envelope(proto("never:"));
    let count = 0;
    for (const length of [0, 3, 5, 7, bytes.length]) {
      for (const end of [false, true]) {
        const streams = pair.clients.map((client) => client.open(PATH, headers));
        for (const stream of streams) {
          if (length > 0) stream.write(bytes.subarray(0, length));
          if (end) stream.end();
        }
        // Past its headers at least, and on to its handler where it gets there.
        for (const client of pair.clients) await new Promise((resolve) => client.session.ping(resolve));
        if (!end || length === bytes.length) for (const stream of streams) stream.close(8);
        const [mine, stock] = await Promise.all(streams.map(answerOf));
        assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), `${length} bytes, ${end}`);
        count++;
      }
    }
    await assertSameLog(pair, count);
  });
}

test("a caller that goes silent has its deadline", async (t) => {
  const pair = await startPair(t, "hooks");
  const headers = { "content-type": "application/grpc", te: "trailers", "grpc-timeout": "50m" };
  const answers = pair.clients.map((client) => {
    const stream = client.open(PATH, headers);
    stream.write(Buffer.from([0, 0, 0, 0, 9, 10]));
    return answerOf(stream);
  });
  const [mine, stock] = await Promise.all(answers);
  assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer));
  assert.equal(mine?.trailers["grpc-status"], "4");
});

for (const hooks of withAndWithout) {
  test(`bodies of any bytes in any pieces are answered as by Connect's own handlers, ${hooks}`, async (t) => {
    const pair = await startPair(t, hooks);
    const random = seededRandom(20_240_917);
    const below = (limit: number) => Math.floor(random() * limit);
    for (let round = 0; round < 400; round++) {
      const { contentType, message, frame } = speeches[below(speeches.length)] as Speech;
      const value = ["", "ada", "fail:5", "metadata:", "x".repeat(below(2_100))][below(5)] as string;
      let body = frame(message(value));
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
      const headers = { "content-type": contentType, te: "trailers" };
      const answers = pair.clients.map(async (client) => {
        const stream = client.open(PATH, headers);
        const answer = answerOf(stream);
        for (const piece of pieces.slice(0, 8)) {
          stream.write(piece);
          await setImmediate();
        }
        stream.end(Buffer.concat(pieces.slice(8)));
        return answer;
      });
      const [mine, stock] = await Promise.all(answers);
      const name = `round ${round}: ${contentType} ${pieces.map((piece) => piece.toString("hex")).join(" ")}`;
      assert.deepEqual(comparable(mine as Answer), comparable(stock as Answer), name);
    }
    assert.ok(pair.shortened() > 100, `${pair.shortened()} calls took the short path`);
  });
}
