import assert from "node:assert/strict";
import { type ClientHttp2Stream, constants } from "node:http2";
import { type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  answerOf,
  connectHttp2,
  EchoService,
  echo,
  envelope,
  type Http2Client,
  readEnvelopes,
  startServer,
  until,
  within,
} from "#shared/testing";

const EXPAND = `/${EchoService.typeName}/Expand`;
const CHAT = `/${EchoService.typeName}/Chat`;
const GRPC = { "content-type": "application/grpc", te: "trailers" };
const BATCH_BYTES = 16 * 1024;
/** In Node's own buffers, before a writer is told to wait. */
const NODE_BYTES = 64 * 1024;
const text = (value: string) => envelope(toBinary(StringValueSchema, create(StringValueSchema, { value })));

async function connectTo(
  t: TestContext,
  handlers: Partial<ServiceImpl<typeof EchoService>>,
  settings = {},
): Promise<Http2Client> {
  const server = await startServer(t, {
    routes: (router) => router.service(EchoService, { ...echo, ...handlers }),
    config: { fast_path: true, read_max_bytes: 100_000 },
  });
  return await connectHttp2(t, server.url, settings);
}

async function pings({ session }: Http2Client, count = 5): Promise<void> {
  for (let sent = 0; sent < count; sent++) await new Promise((resolve) => session.ping(resolve));
}

for (const size of [10, 1_000, 40_000]) {
  test(`a handler that yields ${size} bytes for ever waits for a caller that does not read, and ends with it`, async (t) => {
    const value = "x".repeat(size);
    let bytes = 0;
    const closed = Promise.withResolvers<void>();
    const client = await connectTo(
      t,
      {
        async *expand() {
          try {
            for (;;) {
              bytes += size;
              yield { value };
            }
          } finally {
            closed.resolve();
          }
        },
      },
      { settings: { initialWindowSize: 0 } },
    );
    const stream = client.open(EXPAND, GRPC);
    stream.end(text("go"));
    await until("something to be written", () => bytes > 0);
    await pings(client);
    const held = bytes;
    await pings(client);
    assert.equal(bytes, held);
    assert.ok(bytes <= NODE_BYTES + BATCH_BYTES + 2 * size, `${bytes} bytes`);
    stream.close(constants.NGHTTP2_CANCEL);
    await within(closed.promise, "the generator's end");
  });
}

test("a caller that reads slowly has every message, in its order", async (t) => {
  const count = 3_000;
  const client = await connectTo(t, {
    async *expand() {
      for (let index = 0; index < count; index++) yield { value: `${index}`.padStart(200) };
    },
  });
  const stream = client.open(EXPAND, GRPC);
  const chunks: Buffer[] = [];
  stream.end(text("go"));
  for await (const chunk of stream) {
    chunks.push(chunk as Buffer);
    await pings(client, 1);
  }
  const messages = readEnvelopes(Buffer.concat(chunks)).map(({ data }) => Number(data.subarray(3).toString()));
  assert.deepEqual(
    messages,
    Array.from({ length: count }, (_, index) => index),
  );
});

test("a handler that waits while its caller makes room is not made to wait for more", async (t) => {
  // So many are written at the end of a turn that the last of them find no room any more.
  const count = 59;
  const value = "x".repeat(1_105);
  const yielded = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const client = await connectTo(
    t,
    {
      async *expand() {
        for (let index = 0; index < count; index++) yield { value };
        yielded.resolve();
        await go.promise;
        yield { value: "last" };
        yield { value: "last of all" };
      },
    },
    { settings: { initialWindowSize: 0 } },
  );
  const stream = client.open(EXPAND, GRPC);
  const answer = answerOf(stream);
  let received = 0;
  stream.on("data", (chunk: Buffer) => {
    received += chunk.length;
  });
  stream.end(text("go"));
  await within(yielded.promise, "all but the last");
  await pings(client);
  client.session.settings({ initialWindowSize: 1_000_000 });
  await until("all of it", () => received === count * text(value).length);
  await pings(client);
  go.resolve();
  const { body, trailers } = await within(answer, "the end");
  assert.equal(trailers["grpc-status"], "0");
  assert.equal(readEnvelopes(body).length, count + 2);
});

test("what comes without a wait comes in few frames, and what waits is not waited for", async (t) => {
  const go = Promise.withResolvers<void>();
  const client = await connectTo(t, {
    async *expand() {
      for (let index = 0; index < 100; index++) yield { value: "x" };
      await go.promise;
      yield { value: "y" };
    },
  });
  const stream: ClientHttp2Stream = client.open(EXPAND, GRPC);
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const answer = answerOf(stream);
  stream.end(text("go"));
  await until("the first hundred", () => readEnvelopes(Buffer.concat(chunks)).length === 100);
  assert.equal(chunks.length, 1);
  go.resolve();
  assert.equal(readEnvelopes((await answer).body).length, 101);
});

test("a handler that does not read holds its caller back", async (t) => {
  const done = Promise.withResolvers<void>();
  let read = 0;
  const client = await connectTo(t, {
    async *chat(requests) {
      for await (const _ of requests) {
        read++;
        await done.promise;
      }
      yield { value: `${read}` };
    },
  });
  const stream = client.open(CHAT, GRPC);
  const answer = answerOf(stream);
  const message = text("x".repeat(50_000));
  const count = 40;
  for (let sent = 0; sent < count; sent++) stream.write(message);
  stream.end();
  await pings(client, 200);
  assert.equal(read, 1);
  assert.ok(
    stream.writableLength > (count / 2) * message.length,
    `${stream.writableLength} bytes are still to be sent`,
  );
  done.resolve();
  const { body, trailers } = await answer;
  assert.equal(trailers["grpc-status"], "0");
  assert.deepEqual(body, text(`${count}`));
});

test("a step that waits is over when the handler reads no further", async (t) => {
  const client = await connectTo(t, {
    async collect(requests) {
      const iterator = requests[Symbol.asyncIterator]();
      const step = iterator.next();
      await iterator.return?.();
      return { value: JSON.stringify(await step) };
    },
  });
  const stream = client.open(`/${EchoService.typeName}/Collect`, GRPC);
  stream.write(text("unread"));
  const { body } = await within(answerOf(stream), "the answer");
  assert.ok(body.includes('"done":true'), body.toString());
});
