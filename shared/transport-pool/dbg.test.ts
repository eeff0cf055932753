import { test } from "node:test";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { failureOf, startPeer, startPool } from "./test-support.ts";
test("dbg", async (t) => {
  const peer = await startPeer(t, (router) => { router.service(BookService, { listBooks: () => ({ books: [{ title: "x".repeat(100_000) }] }) }); });
  const { books, pool } = startPool(t, { address: peer.address, protocol: "grpc-web", read_max_bytes: 50_000 });
  const a = performance.now();
  const e = await failureOf(books.listBooks({}));
  console.log(e.code, e.message, performance.now() - a, pool.states());
  setTimeout(() => console.log(pool.states()), 300);
  const b = performance.now(); await pool.close(); console.log(performance.now() - b);
});
