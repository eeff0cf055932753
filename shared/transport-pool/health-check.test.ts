import assert from "node:assert/strict";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.ts";
import { failureOf, startPeer, startPool, until } from "./test-support.ts";

/** A peer that says of itself what the test wants. */
async function startPeerOf(t: TestContext, initial: Status, port = 0) {
  let status = initial;
  let changed = Promise.withResolvers<void>();
  const peer = await startPeer(
    t,
    (router) => {
      router.service(BookService, { getBook: () => ({ book: { id: "b1" } }) });
      router.service(Health, {
        async *watch(_request, { signal }) {
          while (!signal.aborted) {
            yield { status };
            await Promise.race([changed.promise, once(signal, "abort")]);
          }
        },
      });
    },
    { port },
  );
  function say(next: Status): void {
    status = next;
    changed.resolve();
    changed = Promise.withResolvers();
  }
  return { ...peer, say };
}

test("a peer is called when it says that it serves, and not while it says that it does not", async (t) => {
  const peer = await startPeerOf(t, Status.NOT_SERVING);
  const { books, pool, lines } = startPool(t, { address: peer.address, health_check: {} });
  const error = await failureOf(books.getBook({ id: "b1" }));
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /does not serve/);
  peer.say(Status.SERVING);
  await until(() => pool.states()[0]?.state === "ready");
  await books.getBook({ id: "b1" });
  const told = lines
    .filter(({ msg }) => msg.includes("serve"))
    .map(({ level, msg }) => [level, /serves? again|does not/.exec(msg)?.[0]]);
  assert.deepEqual(told, [
    ["warn", "does not"],
    ["info", "serves again"],
  ]);
});

test("what a peer said before its connection went does not hold for the next one", async (t) => {
  const peer = await startPeerOf(t, Status.SERVING);
  const { books, pool } = startPool(t, { address: peer.address, health_check: {} });
  await books.getBook({ id: "b1" });
  peer.say(Status.NOT_SERVING);
  await until(() => pool.states()[0]?.endpoints[0]?.health === "not_serving");
  await peer.kill();
  await until(() => pool.states()[0]?.endpoints[0]?.health === "unknown");
  await startPeerOf(t, Status.SERVING, peer.port);
  // It waits for the connection, and for the word of the one that is there now.
  assert.equal((await books.getBook({ id: "b1" })).book?.id, "b1");
});
