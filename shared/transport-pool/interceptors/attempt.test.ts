import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import type { Channel } from "../balancing/channel.ts";
import { createEndpoint } from "../balancing/endpoint.ts";
import type { Subchannel } from "../connections/subchannel.ts";
import { failureOf } from "../test-support.ts";
import { createAttempt } from "./attempt.ts";

/** How often a peer that has taken `usualMs` so far is asked when a call of it ends with this code after 100 ms. */
async function checksAfter(t: TestContext, usualMs: number, code: Code): Promise<number> {
  let checks = 0;
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const subchannel = { checkAlive: () => checks++ } as unknown as Subchannel;
  const endpoint = createEndpoint({ address: "a:1", weight: 1, priority: 0, health: "unwatched", subchannel });
  endpoint.begin();
  endpoint.end({ ms: usualMs, isFault: false, now });
  const channel = {
    pick: () => {
      endpoint.begin();
      return Promise.resolve(endpoint);
    },
  } as unknown as Channel;
  const attempt = createAttempt({ channel, hashHeader: undefined, onOutcome: () => {} });
  const leaving = new AbortController();
  const leave: Interceptor = (next) => (req) => next({ ...req, signal: leaving.signal });
  const transport = createRouterTransport(
    ({ service }) =>
      service(BookService, {
        getBook: () => {
          now += 100;
          leaving.abort(new ConnectError("over", code));
          return new Promise(() => {});
        },
      }),
    {
      transport: {
        interceptors: [leave, (next) => attempt((_endpoint, req) => next(req))],
      },
    },
  );
  const books = createClient(BookService, transport);
  const error = await failureOf(books.getBook({ id: "1" }));
  assert.equal(error.code, code);
  return checks;
}

test("a peer is asked for a sign of life when a deadline passes", async (t) => {
  assert.equal(await checksAfter(t, 1_000, Code.DeadlineExceeded), 1);
});

test("a peer is asked for a sign of life when a call that took longer than usual is cancelled: a hedge was quicker", async (t) => {
  assert.equal(await checksAfter(t, 10, Code.Canceled), 1);
  assert.equal(await checksAfter(t, 1_000, Code.Canceled), 0);
});
