import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, createContextValues, type UnaryRequest } from "@connectrpc/connect";
import { BookService, CreateBookRequestSchema } from "#gen/book/v1/book_pb.ts";
import type { MethodPolicy } from "../call/method-policy.ts";
import { outgoingCallKey } from "../call/outgoing-call.ts";
import { requestIdInterceptor } from "./request-id.ts";
import { retryInterceptor } from "./retry/retry.ts";
import { createRetryThrottle } from "./retry/retry-throttle.ts";
import { callOf, defaultRetry, fakeClock, scriptedPeer, unaryRequest } from "./retry/test-support.ts";

function createBook(policy: Partial<MethodPolicy>, requestId = ""): UnaryRequest<typeof CreateBookRequestSchema> {
  return {
    ...unaryRequest(undefined),
    contextValues: createContextValues().set(outgoingCallKey, callOf(policy)),
    method: BookService.method.createBook,
    message: create(CreateBookRequestSchema, { requestId, title: "Dune" }),
  };
}

async function sent<R extends UnaryRequest>(req: R): Promise<R> {
  const peer = scriptedPeer({ now: () => 0 }, { with: "ok" });
  await requestIdInterceptor(peer.next)(req);
  return peer.sends[0]!.req as unknown as R;
}

const hedge = { delayMs: 10, max: 1, codes: [Code.Unavailable] };

test("a call that may be repeated gets a request id, and the caller's message stays as it is", async () => {
  for (const policy of [{ retry: defaultRetry }, { hedge }]) {
    const req = createBook(policy);
    const { message } = await sent(req);
    assert.match(message.requestId, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/);
    assert.equal(message.title, "Dune");
    assert.equal(req.message.requestId, "");
  }
});

test("an id of the caller's own stays, and so does a call that is not repeated or has no such field", async () => {
  for (const req of [
    createBook({ retry: defaultRetry }, "mine"),
    createBook({}),
    createBook({ unreachableRetry: defaultRetry }),
    unaryRequest(callOf({ retry: defaultRetry })),
    unaryRequest(undefined),
  ]) {
    assert.equal(await sent(req), req);
  }
});

test("all attempts of a call carry the same id, and each call one of its own", async (t) => {
  const clock = fakeClock(t);
  const throttle = createRetryThrottle({ maxTokens: 100, tokenRatio: 0.1 });
  const ids: string[][] = [];
  for (let i = 0; i < 2; i++) {
    const peer = scriptedPeer(clock, { with: Code.Unavailable }, { with: Code.Unavailable }, { with: "ok" });
    const call = requestIdInterceptor(retryInterceptor({ throttle, now: clock.now })(peer.next));
    await clock.run(call(createBook({ retry: defaultRetry })));
    ids.push(peer.sends.map(({ req }) => (req as ReturnType<typeof createBook>).message.requestId));
  }
  assert.deepEqual(
    ids.map((own) => [own.length, new Set(own).size]),
    [
      [3, 1],
      [3, 1],
    ],
  );
  assert.notEqual(ids[0]?.[0], ids[1]?.[0]);
});
