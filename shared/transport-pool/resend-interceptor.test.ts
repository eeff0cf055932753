import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type DescMessage } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextValues,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { BookService, GetBookRequestSchema, GetBookResponseSchema } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { resendInterceptor, unprocessed } from "./resend-interceptor.ts";
import { failureOf } from "./test-support.ts";

type Next = (req: UnaryRequest | StreamRequest) => Promise<UnaryResponse | StreamResponse>;

const common = {
  requestMethod: "POST",
  url: "http://localhost:9002",
  signal: new AbortController().signal,
  header: new Headers(),
  contextValues: createContextValues(),
};

function unary(signal = common.signal): UnaryRequest {
  const message = create(GetBookRequestSchema, { id: "b1" });
  return { ...common, signal, stream: false, service: BookService, method: BookService.method.getBook, message };
}

// The interceptor does not look at what kind of stream it is; no service here has a client stream.
function streaming(messages: AsyncIterable<unknown>): StreamRequest {
  const message = messages as StreamRequest<DescMessage>["message"];
  return { ...common, stream: true, service: OrderService, method: OrderService.method.watchOrder, message };
}

const answer: UnaryResponse = {
  stream: false,
  service: BookService,
  method: BookService.method.getBook,
  header: new Headers(),
  trailer: new Headers(),
  message: create(GetBookResponseSchema),
};

/** Fails the first `failures` sends as unprocessed, having taken `take` messages of each. */
function peer(failures: number, take = 0) {
  const sends: unknown[][] = [];
  const next: Next = async (req) => {
    const taken: unknown[] = [];
    sends.push(taken);
    if (req.stream) {
      const iterator = req.message[Symbol.asyncIterator]();
      for (let i = 0; sends.length > failures || i < take; i++) {
        const result = await iterator.next();
        if (result.done === true) break;
        taken.push(result.value);
      }
    }
    if (sends.length <= failures) throw unprocessed("the peer closed the connection");
    return answer;
  };
  return { sends, call: resendInterceptor(next) };
}

test("an unprocessed call is sent again", async () => {
  const { sends, call } = peer(2);
  assert.equal(await call(unary()), answer);
  assert.equal(sends.length, 3);
});

test("a call that is never processed fails with UNAVAILABLE after five sends", async () => {
  const { sends, call } = peer(100);
  const error = await failureOf(call(unary()));
  assert.equal(error.code, Code.Unavailable);
  assert.equal(sends.length, 5);
});

test("other failures are not sent again, and neither is a call that has ended", async () => {
  let sends = 0;
  const failing = resendInterceptor(() => {
    sends++;
    return Promise.reject(new ConnectError("refused", Code.Unavailable));
  });
  await failureOf(failing(unary()));
  assert.equal(sends, 1);
  const ended = peer(100);
  await failureOf(ended.call(unary(AbortSignal.abort())));
  assert.equal(ended.sends.length, 1);
});

test("a stream is sent again from its first message", async () => {
  async function* messages() {
    yield "a";
    yield "b";
    yield "c";
  }
  for (const take of [0, 1, 2]) {
    const { sends, call } = peer(2, take);
    await call(streaming(messages()));
    assert.deepEqual(sends.at(-1), ["a", "b", "c"]);
  }
});

test("a stream of which more was taken than is kept is not sent again", async () => {
  async function* messages() {
    yield "a";
    yield "b";
    yield "c";
  }
  const { sends, call } = peer(1, 3);
  await failureOf(call(streaming(messages())));
  assert.equal(sends.length, 1);
});

test("a message that an abandoned attempt still waits for goes to the next one", async () => {
  const first = Promise.withResolvers<string>();
  async function* messages() {
    yield await first.promise;
    yield "b";
  }
  const seen: unknown[] = [];
  let sends = 0;
  const call = resendInterceptor(async (req) => {
    assert.ok(req.stream);
    const iterator = req.message[Symbol.asyncIterator]();
    if (sends++ === 0) {
      void iterator.next();
      throw unprocessed("the peer closed the connection");
    }
    first.resolve("a");
    for (let result = await iterator.next(); result.done !== true; result = await iterator.next()) {
      seen.push(result.value);
    }
    return answer;
  });
  await call(streaming(messages()));
  assert.deepEqual(seen, ["a", "b"]);
});
