import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { describeError } from "#shared/errors";
import { failureOf, freePort, type Routes, startPeer, startPool, until, within } from "./test-support.ts";

const routes: Routes = (router) => {
  router.service(BookService, {
    getRecommendation: ({ userId }, context) => {
      context.responseTrailer.set("x-shelf", "7");
      return { recommendation: `a book for ${userId}` };
    },
    getBook: ({ id }) => {
      const error = new ConnectError(`no book ${id}`, Code.NotFound, { "x-hint": "look elsewhere" });
      const info = { reason: "BOOK_NOT_FOUND", domain: "book-service", metadata: { book_id: id } };
      error.details.push({ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, info) });
      const fieldViolations = [{ field: "id", description: "unknown", reason: "string.id" }];
      error.details.push({ desc: BadRequestSchema, value: { fieldViolations } });
      throw error;
    },
    listBooks: () => ({ books: [{ title: "x".repeat(100_000) }] }),
  });
  router.service(OrderService, {
    async *watchOrder({ id }) {
      yield { order: { id, status: OrderStatus.PENDING } };
      yield { order: { id, status: OrderStatus.CONFIRMED } };
    },
  });
};

for (const protocol of ["grpc", "connect", "grpc-web"]) {
  test(`${protocol}: a unary call gets its answer and trailers`, async (t) => {
    const peer = await startPeer(t, routes);
    const { books } = startPool(t, { address: peer.address, protocol });
    let trailer: Headers | undefined;
    const answer = await books.getRecommendation(
      { userId: "u1" },
      {
        onTrailer: (received) => {
          trailer = received;
        },
      },
    );
    assert.equal(answer.recommendation, "a book for u1");
    assert.equal(trailer?.get("x-shelf"), "7");
  });

  test(`${protocol}: a server stream gives its messages in order`, async (t) => {
    const peer = await startPeer(t, routes);
    const { pool } = startPool(t, { address: peer.address, protocol });
    const orders = pool.client("book-service", OrderService);
    const seen: OrderStatus[] = [];
    for await (const { order } of orders.watchOrder({ id: "o1" })) seen.push(order?.status ?? 0);
    assert.deepEqual(seen, [OrderStatus.PENDING, OrderStatus.CONFIRMED]);
  });

  test(`${protocol}: an error arrives with its code, message, details and metadata`, async (t) => {
    const peer = await startPeer(t, routes);
    const { books } = startPool(t, { address: peer.address, protocol });
    const error = await failureOf(books.getBook({ id: "b1" }));
    assert.equal(error.code, Code.NotFound);
    assert.equal(error.rawMessage, "no book b1");
    assert.equal(error.metadata.get("x-hint"), "look elsewhere");
    assert.deepEqual(
      error.findDetails(ErrorInfoSchema).map(({ reason, metadata }) => ({ reason, metadata })),
      [{ reason: "BOOK_NOT_FOUND", metadata: { book_id: "b1" } }],
    );
    assert.equal(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field, "id");
  });

  test(`${protocol}: a call to a service that is down fails at once with UNAVAILABLE, name and address`, async (t) => {
    const address = `127.0.0.1:${await freePort()}`;
    const { books } = startPool(t, { address, protocol });
    const error = await within(2_000, failureOf(books.getBook({ id: "b1" })));
    assert.equal(error.code, Code.Unavailable);
    assert.match(error.message, new RegExp(`book-service at ${address}.*ECONNREFUSED`));
  });

  test(`${protocol}: an answer over the limit fails with RESOURCE_EXHAUSTED and the next call goes on`, async (t) => {
    const peer = await startPeer(t, routes);
    const { books, pool } = startPool(t, { address: peer.address, protocol, read_max_bytes: 50_000 });
    const error = await failureOf(books.listBooks({}));
    assert.equal(error.code, Code.ResourceExhausted);
    // Stock Connect forgets the stream of an answer that it has not read to its end.
    await until(() => pool.states()[0]?.openCalls === 0);
    assert.equal((await books.getRecommendation({ userId: "u1" })).recommendation, "a book for u1");
    assert.equal(peer.sessionCount(), 1);
  });
}

test("a peer is reached by its IPv6 address", async (t) => {
  if (!Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === "::1"))) {
    t.skip("this machine has no ::1");
    return;
  }
  const peer = await startPeer(t, routes, { host: "::1" });
  const { books } = startPool(t, { address: peer.address });
  assert.equal((await books.getRecommendation({ userId: "u1" })).recommendation, "a book for u1");
});

test("the error for a name with several addresses says what was wrong with each", () => {
  const errors = [new Error("connect ECONNREFUSED ::1:9002"), new Error("connect ECONNREFUSED 127.0.0.1:9002")];
  assert.equal(
    describeError(new AggregateError(errors)),
    "connect ECONNREFUSED ::1:9002; connect ECONNREFUSED 127.0.0.1:9002",
  );
});

test("hundreds of calls at once share one connection", async (t) => {
  const peer = await startPeer(t, routes);
  const { books, pool } = startPool(t, { address: peer.address });
  const answers = await Promise.all(Array.from({ length: 400 }, () => books.listBooks({})));
  assert.equal(answers.length, 400);
  assert.equal(peer.sessionCount(), 1);
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("a stream that nobody reads does not end the process when it fails", async (t) => {
  const { pool } = startPool(t, { address: `127.0.0.1:${await freePort()}` });
  const orders = pool.client("book-service", OrderService);
  const stream = orders.watchOrder({ id: "o1" });
  await assert.rejects(pool.client("book-service", BookService).getBook({ id: "b1" }));
  await new Promise((resolve) => setImmediate(resolve));
  const error = await failureOf(stream[Symbol.asyncIterator]().next());
  assert.equal(error.code, Code.Unavailable);
});
