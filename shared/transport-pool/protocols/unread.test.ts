import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type Message, toBinary } from "@bufbuild/protobuf";
import type { Interceptor, UnaryResponse } from "@connectrpc/connect";
import { BookService, type GetBookRequest, GetBookRequestSchema } from "#gen/book/v1/book_pb.ts";
import { unreadBytes, unreadMessage } from "#shared/unread";
import { type Routes, startPeer, startPool } from "../test-support.ts";

const method = BookService.method.getBook;
const unknown = [0xf8, 0x3f, 1];
const bytes = new Uint8Array([
  ...unknown,
  ...toBinary(GetBookRequestSchema, create(GetBookRequestSchema, { id: "b1" })),
]);

/** Answers with the id that it was asked for, and the numbers of the fields that it does not know. */
const routes: Routes = (router) => {
  router.rpc(method, ({ id, $unknown = [] }) => ({ book: { id, title: $unknown.map(({ no }) => no).join() } }));
};

function unreadRequest(): GetBookRequest {
  const message = unreadMessage(GetBookRequestSchema, bytes);
  assert.ok(message);
  return message;
}

for (const protocol of ["grpc", "connect"] as const) {
  const setting: Interceptor = (next) => (request) => {
    if (!request.stream) Object.assign(request.message, { id: "b2" });
    return next(request);
  };

  test(`${protocol}: an unread message goes as it is, and its answer comes unread`, async (t) => {
    const peer = await startPeer(t, routes);
    const { pool } = startPool(t, { address: peer.address, protocol });
    const { message } = await pool.transport("book-service").unary(method, undefined, undefined, {}, unreadRequest());
    assert.ok(unreadBytes(message));
    assert.deepEqual([message.book?.id, message.book?.title], ["b1", "1023"]);
  });

  test(`${protocol}: a message that an interceptor has looked into is sent as it is then, and so is its answer read`, async (t) => {
    const peer = await startPeer(t, routes);
    const { pool } = startPool(t, { address: peer.address, protocol }, { interceptors: [setting] });
    const { message } = await pool.transport("book-service").unary(method, undefined, undefined, {}, unreadRequest());
    assert.equal(unreadBytes(message), undefined);
    assert.deepEqual([message.book?.id, message.book?.title], ["b2", "1023"]);
  });

  test(`${protocol}: an interceptor may look into an unread answer`, async (t) => {
    const peer = await startPeer(t, routes);
    let seen: UnaryResponse["message"] | undefined;
    const look: Interceptor = (next) => async (request) => {
      const response = await next(request);
      if (!response.stream) seen = { ...response.message } as Message;
      return response;
    };
    const { pool } = startPool(t, { address: peer.address, protocol }, { interceptors: [look] });
    const { message } = await pool.transport("book-service").unary(method, undefined, undefined, {}, unreadRequest());
    assert.equal((seen as typeof message | undefined)?.book?.id, "b1");
    assert.equal(unreadBytes(message), undefined);
  });

  test(`${protocol}: the answer to a message of the usual kind is read at once`, async (t) => {
    const peer = await startPeer(t, routes);
    const { pool } = startPool(t, { address: peer.address, protocol });
    const { message } = await pool.transport("book-service").unary(method, undefined, undefined, {}, { id: "b1" });
    assert.equal(unreadBytes(message), undefined);
    assert.equal(message.book?.id, "b1");
  });
}

test("Connect's own transports read an unread message, and what it does not know is sent all the same", async (t) => {
  const peer = await startPeer(t, routes);
  const { pool } = startPool(t, { address: peer.address, protocol: "grpc-web" });
  const { message } = await pool.transport("book-service").unary(method, undefined, undefined, {}, unreadRequest());
  assert.deepEqual([message.book?.id, message.book?.title], ["b1", "1023"]);
});
