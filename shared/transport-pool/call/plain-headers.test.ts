import assert from "node:assert/strict";
import { test } from "node:test";
import type { UnaryRequest } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { beginCall, runInCall } from "#shared/call-context";
import { startPeer, startPool } from "../test-support.ts";
import { sendablePairs } from "./plain-headers.ts";

test("only pairs that need no look are taken as they are", () => {
  const plain: [string, string][] = [
    ["authorization", "Bearer abc.def"],
    ["accept-language", "de, en;q=0.5"],
  ];
  assert.deepEqual(sendablePairs(plain), plain);
  assert.deepEqual(sendablePairs([]), []);
  for (const others of [
    new Headers(plain),
    Object.fromEntries(plain),
    [["Authorization", "x"]],
    [["x-a", " padded"]],
    [["x-a", "ü"]],
    [["x-a", ""]],
    [
      ["x-a", "1"],
      ["x-a", "2"],
    ],
    [["x-request-id", "1"]],
    [["traceparent", "1"]],
    [["grpc-timeout", "1S"]],
    [["content-type", "text/plain"]],
    [["user-agent", "me"]],
    [["set-cookie", "a=b"]],
    [["x-a"]],
  ]) {
    assert.equal(sendablePairs(others as ConstructorParameters<typeof Headers>[0]), undefined, JSON.stringify(others));
  }
});

for (const protocol of ["grpc", "connect"] as const) {
  test(`${protocol}: pairs are sent, and seen by interceptors, as Headers of the same are`, async (t) => {
    const received: Headers[] = [];
    const seen: UnaryRequest["header"][] = [];
    const peer = await startPeer(t, (router) => {
      router.rpc(BookService.method.getBook, (_request, { requestHeader }) => {
        received.push(requestHeader);
        return {};
      });
    });
    const look = { address: peer.address, protocol };
    const plain = startPool(t, look);
    const watched = startPool(t, look, {
      interceptors: [
        (next) => (request) => {
          seen.push(request.header);
          return next(request);
        },
      ],
    });
    const pairs: [string, string][] = [
      ["x-tenant", "t1"],
      ["authorization", "Bearer abc"],
    ];
    const call = beginCall("test");
    for (const { pool } of [plain, watched]) {
      for (const header of [pairs, new Headers(pairs)]) {
        await runInCall(call, () =>
          pool.transport("book-service").unary(BookService.method.getBook, undefined, 0, header, {}),
        );
      }
    }
    const [first, ...others] = received.map((headers) => Object.fromEntries(headers));
    for (const other of others) assert.deepEqual(other, first);
    assert.deepEqual([...seen[0]!], [...seen[1]!]);
    assert.equal(first?.["x-tenant"], "t1");
  });
}
