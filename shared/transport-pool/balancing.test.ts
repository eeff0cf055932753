import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { discoverySection } from "#shared/discovery";
import {
  failureOf,
  freePort,
  startPeer,
  startPool,
  startStoppedPeer,
  startTcpPeer,
  until,
  within,
} from "./test-support.ts";

const FAST_BACKOFF = { initial: "5ms", max: "20ms" };
const POLICIES = ["pick_first", "round_robin", "least_request", "consistent_hash"] as const;

const balancerOf = (policy: (typeof POLICIES)[number]) =>
  policy === "consistent_hash" ? { policy, hash_header: "x-user-id" } : { policy };

/** A peer that says its name. */
function startNamed(t: TestContext, name: string, port = 0) {
  return startPeer(t, (router) => router.service(BookService, { getBook: () => ({ book: { title: name } }) }), {
    port,
  });
}

/** Who has answered so many calls, one after the other. */
async function answersOf(books: Client<typeof BookService>, count: number, headers: Record<string, string> = {}) {
  const answers: Record<string, number> = {};
  for (let i = 0; i < count; i++) {
    const { book } = await books.getBook({ id: "b1" }, { headers });
    const name = book?.title ?? "";
    answers[name] = (answers[name] ?? 0) + 1;
  }
  return answers;
}

const stateOf = ({ pool }: ReturnType<typeof startPool>, index: number) => pool.states()[0]?.endpoints[index];

for (const policy of POLICIES) {
  test(`${policy}: no call fails when a peer goes and comes again, though nothing is retried`, async (t) => {
    const [one, two] = await Promise.all([startNamed(t, "one"), startNamed(t, "two")]);
    const started = startPool(t, {
      address: [one.address, two.address],
      balancer: balancerOf(policy),
      connect_backoff: FAST_BACKOFF,
    });
    const { books, pool } = started;
    pool.connect();
    await answersOf(books, 10);
    await one.kill();
    await until(() => stateOf(started, 0)?.state !== "ready");
    assert.deepEqual(await answersOf(books, 20), { two: 20 });
    await startNamed(t, "one again", one.port);
    if (policy === "pick_first") {
      // It stays where it is, and goes back when that ends.
      assert.deepEqual(await answersOf(books, 10), { two: 10 });
      await two.kill();
      await until(() => stateOf(started, 1)?.state !== "ready");
      assert.deepEqual(await answersOf(books, 10), { "one again": 10 });
    } else {
      await until(() => stateOf(started, 0)?.state === "ready");
      const answers = await answersOf(books, 200);
      assert.ok((answers["one again"] ?? 0) > 0, JSON.stringify(answers));
    }
  });

  test(`${policy}: hundreds of calls at once are spread as it says, and none is left over`, async (t) => {
    const peers = await Promise.all(["one", "two", "three"].map((name) => startNamed(t, name)));
    const { books, pool } = startPool(t, {
      address: peers.map(({ address }) => address),
      balancer: balancerOf(policy),
    });
    const wanted = policy === "pick_first" ? 1 : 3;
    pool.connect();
    await until(() => pool.states()[0]?.endpoints.filter(({ state }) => state === "ready").length === wanted);
    const calls = Array.from({ length: 300 }, (_, i) =>
      books.getBook({ id: "b1" }, { headers: { "x-user-id": `${i}` } }),
    );
    const answers = new Set((await Promise.all(calls)).map(({ book }) => book?.title));
    assert.equal(answers.size, wanted);
    await until(() => pool.states()[0]?.openCalls === 0);
    for (const { openCalls } of pool.states()[0]?.endpoints ?? []) assert.equal(openCalls, 0);
  });
}

test("round_robin: each of three peers has its turn", async (t) => {
  const peers = await Promise.all(["one", "two", "three"].map((name) => startNamed(t, name)));
  const started = startPool(t, {
    address: peers.map(({ address }) => address),
    balancer: { policy: "round_robin" },
  });
  started.pool.connect();
  await until(() => [0, 1, 2].every((index) => stateOf(started, index)?.state === "ready"));
  assert.deepEqual(await answersOf(started.books, 30), { one: 10, two: 10, three: 10 });
});

test("round_robin: a registry's weights are their shares, those that it changes too", async (t) => {
  const [light, heavy] = await Promise.all([startNamed(t, "light"), startNamed(t, "heavy")]);
  const registry = await startConsul(t, { [light.port]: 1, [heavy.port]: 4 });
  const started = startPool(
    t,
    { address: "consul:///book-service", balancer: { policy: "round_robin" } },
    { discovery: discoverySection.parse({ consul: { address: registry.url } }) },
  );
  started.pool.connect();
  await until(() => [0, 1].every((index) => stateOf(started, index)?.state === "ready"));
  assert.deepEqual(await answersOf(started.books, 50), { light: 10, heavy: 40 });
  registry.change({ [light.port]: 3, [heavy.port]: 1 });
  const weightOf = (peer: { address: string }) =>
    started.pool.states()[0]?.endpoints.find(({ address }) => address === peer.address)?.weight;
  await until(() => weightOf(light) === 3 && weightOf(heavy) === 1);
  // What is due by the old weights is had first.
  await answersOf(started.books, 10);
  const { light: share = 0 } = await answersOf(started.books, 100);
  assert.ok(share >= 74 && share <= 76, `${share}`);
});

test("an instance that its registry lists anew is called, and one that it lists no more ends with its last call", async (t) => {
  const answer = Promise.withResolvers<object>();
  const called = Promise.withResolvers<void>();
  const old = await startPeer(t, (router) =>
    router.service(BookService, {
      getBook() {
        called.resolve();
        return answer.promise;
      },
    }),
  );
  const registry = await startConsul(t, { [old.port]: 1 });
  const { books, pool } = startPool(
    t,
    { address: "consul:///book-service" },
    { discovery: discoverySection.parse({ consul: { address: registry.url } }) },
  );
  const open = books.getBook({ id: "b1" });
  await within(5_000, called.promise);
  const fresh = await startNamed(t, "fresh");
  registry.change({ [fresh.port]: 1 });
  await until(() => pool.states()[0]?.endpoints[0]?.address === fresh.address);
  assert.deepEqual(await answersOf(books, 5), { fresh: 5 });
  assert.equal(old.sessions.size, 1);
  assert.equal(pool.states()[0]?.openCalls, 1);
  answer.resolve({ book: { title: "old" } });
  assert.equal((await open).book?.title, "old");
  await until(() => old.sessions.size === 0);
});

test("consistent_hash: a header's value keeps its peer; only when that is gone it has another, and then it is back", async (t) => {
  const peers = await Promise.all(["0", "1", "2"].map((name) => startNamed(t, name)));
  const started = startPool(t, {
    address: peers.map(({ address }) => address),
    balancer: { policy: "consistent_hash", hash_header: "x-user-id" },
    connect_backoff: FAST_BACKOFF,
  });
  const { books, pool } = started;
  pool.connect();
  await until(() => [0, 1, 2].every((index) => stateOf(started, index)?.state === "ready"));
  const users = Array.from({ length: 60 }, (_, i) => `user-${i}`);
  async function peersOfUsers(): Promise<string[]> {
    const calls = users.map((user) => books.getBook({ id: "b1" }, { headers: { "x-user-id": user } }));
    return (await Promise.all(calls)).map(({ book }) => book?.title ?? "");
  }
  const before = await peersOfUsers();
  assert.deepEqual(new Set(before), new Set(["0", "1", "2"]));
  assert.deepEqual(await peersOfUsers(), before);
  await peers[1]?.kill();
  await until(() => stateOf(started, 1)?.state !== "ready");
  const without = await peersOfUsers();
  for (const [index, peer] of before.entries()) {
    if (peer === "1") assert.notEqual(without[index], "1");
    else assert.equal(without[index], peer);
  }
  assert.deepEqual(new Set(without), new Set(["0", "2"]));
  await startNamed(t, "1", peers[1]?.port);
  await until(() => stateOf(started, 1)?.state === "ready");
  assert.deepEqual(await peersOfUsers(), before);
});

test("pick_first: the first of the list gets all calls, and the others not even a connection", async (t) => {
  const [one, two] = await Promise.all([startNamed(t, "one"), startNamed(t, "two")]);
  const { books, pool } = startPool(t, { address: [one.address, two.address], balancer: { policy: "pick_first" } });
  const begunAt = performance.now();
  pool.connect();
  await until(() => pool.states()[0]?.state === "ready");
  // On a busy machine the first may be longer than its head start.
  const isInTime = performance.now() - begunAt < 200;
  const answers = await answersOf(books, 10);
  if (isInTime) {
    assert.deepEqual(answers, { one: 10 });
    assert.equal(two.sessionCount(), 0);
  }
  const reversed = startPool(t, { address: [two.address, one.address], balancer: { policy: "pick_first" } });
  assert.deepEqual(await answersOf(reversed.books, 10), { two: 10 });
});

test("pick_first: one that is down is passed over by the first call, and at the start without any", async (t) => {
  const two = await startNamed(t, "two");
  const address = [`127.0.0.1:${await freePort()}`, two.address];
  const called = startPool(t, { address, balancer: { policy: "pick_first" } });
  assert.deepEqual(await answersOf(called.books, 3), { two: 3 });
  const connected = startPool(t, { address, balancer: { policy: "pick_first" } });
  connected.pool.connect();
  await until(() => connected.pool.states()[0]?.state === "ready");
});

test("pick_first: one that does not answer gets a head start, then the next is tried beside it", async (t) => {
  const silent = await startTcpPeer(t, () => {});
  const two = await startNamed(t, "two");
  for (const first of [silent, await startStoppedPeer(t)]) {
    const { books } = startPool(t, { address: [first, two.address], balancer: { policy: "pick_first" } });
    assert.deepEqual(await within(5_000, answersOf(books, 3)), { two: 3 });
  }
});

test("least_request: calls leave a slow peer alone", async (t) => {
  const slow = await startPeer(t, (router) =>
    router.service(BookService, { getBook: () => delay(150, { book: { title: "slow" } }) }),
  );
  const quick = await startNamed(t, "quick");
  const started = startPool(t, { address: [slow.address, quick.address], balancer: { policy: "least_request" } });
  const { books, pool } = started;
  pool.connect();
  await until(() => [0, 1].every((index) => stateOf(started, index)?.state === "ready"));
  let inARow = 0;
  // A quick one that was slow once, as at its very first call, is believed to be slow for a while.
  for (let calls = 0; inARow < 40; calls++) {
    assert.ok(calls < 400, "calls do not leave the slow peer alone");
    const { book } = await books.getBook({ id: "b1" });
    inARow = book?.title === "quick" ? inARow + 1 : 0;
  }
  const [slowState, quickState] = pool.states()[0]?.endpoints ?? [];
  assert.ok(slowState?.latencyMs === null || Number(slowState?.latencyMs) > Number(quickState?.latencyMs));
});

test("a call that waits for a connection is sent to the peer that is there first", async (t) => {
  const silent = await startTcpPeer(t, () => {});
  const peer = await startNamed(t, "one");
  for (const policy of POLICIES.filter((one) => one !== "pick_first")) {
    const { books } = startPool(t, { address: [silent, peer.address], balancer: balancerOf(policy) });
    assert.deepEqual(await within(2_000, answersOf(books, 3, { "x-user-id": "u1" })), { one: 3 });
  }
});

test("without wait_for_ready a call fails when no peer can be reached, with it it waits for one that comes", async (t) => {
  const ports = [await freePort(), await freePort()];
  const address = ports.map((port) => `127.0.0.1:${port}`);
  const common = { address, connect_backoff: FAST_BACKOFF };
  const failing = startPool(t, common);
  const error = await within(2_000, failureOf(failing.books.getBook({ id: "b1" })));
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /book-service.*ECONNREFUSED/);
  assert.ok(
    address.some((one) => error.message.includes(one)),
    error.message,
  );

  const waiting = startPool(t, { ...common, wait_for_ready: true });
  const call = waiting.books.getBook({ id: "b1" }, { timeoutMs: 10_000 });
  await until(() => waiting.pool.states()[0]?.state === "transient_failure");
  assert.equal(waiting.pool.states()[0]?.openCalls, 1);
  await startNamed(t, "late", ports[1]);
  assert.equal((await call).book?.title, "late");
});

test("with wait_for_ready a call waits no longer than its deadline, and not after it was cancelled", async (t) => {
  const { books, pool } = startPool(t, {
    address: [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`],
    wait_for_ready: true,
  });
  const late = await within(5_000, failureOf(books.getBook({ id: "b1" }, { timeoutMs: 50 })));
  assert.equal(late.code, Code.DeadlineExceeded);
  const leaving = new AbortController();
  const left = failureOf(books.getBook({ id: "b1" }, { signal: leaving.signal }));
  await until(() => pool.states()[0]?.openCalls === 1);
  leaving.abort();
  assert.equal((await left).code, Code.Canceled);
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("of one method, wait_for_ready holds for that one", async (t) => {
  const port = await freePort();
  const { books, pool } = startPool(t, {
    address: `127.0.0.1:${port}`,
    connect_backoff: FAST_BACKOFF,
    methods: { "book.v1.BookService/GetBook": { wait_for_ready: true } },
  });
  const call = books.getBook({ id: "b1" });
  assert.equal((await failureOf(books.listBooks({}))).code, Code.Unavailable);
  await until(() => pool.states()[0]?.openCalls === 1);
  await startNamed(t, "late", port);
  assert.equal((await call).book?.title, "late");
});

test("a peer that answers INTERNAL is ejected, its calls go elsewhere, and it returns when it is well", async (t) => {
  let isIll = true;
  let answers = 0;
  const ill = await startPeer(t, (router) =>
    router.service(BookService, {
      getBook() {
        answers++;
        if (isIll) throw new ConnectError("broken", Code.Internal);
        return {};
      },
    }),
  );
  const good = await Promise.all([startNamed(t, "one"), startNamed(t, "two")]);
  const started = startPool(t, {
    address: [ill, ...good].map(({ address }) => address),
    balancer: { policy: "round_robin" },
    breaker: { enabled: false },
    outlier_ejection: {
      interval: "20ms",
      base_ejection_time: "2s",
      failure_percentage: { min_hosts: 3, request_volume: 1 },
    },
  });
  const { books, lines } = started;
  const call = () => books.getBook({ id: "b1" }).catch(ConnectError.from);
  await until(() => {
    void call();
    return stateOf(started, 0)?.ejectedForMs !== undefined;
  });
  assert.ok((stateOf(started, 0)?.ejectedForMs ?? 0) <= 2_000);
  assert.equal(stateOf(started, 0)?.state, "ready");
  await until(() => started.pool.states()[0]?.openCalls === 0);
  const before = answers;
  isIll = false;
  for (let i = 0; i < 12; i++) assert.ok(!((await call()) instanceof ConnectError));
  assert.equal(answers, before);
  const ejection = lines.find(({ msg }) => msg.includes("is ejected"));
  assert.equal(ejection?.level, "warn");
  assert.equal(ejection?.peer, ill.address);

  await until(() => stateOf(started, 0)?.ejectedForMs === undefined);
  for (let i = 0; i < 12; i++) assert.ok(!((await call()) instanceof ConnectError));
  assert.ok(answers > before);
  assert.ok(lines.some(({ msg, peer }) => msg.includes("is used again") && peer === ill.address));
});

test("peers that are all ill are not all ejected, and a single one never is", async (t) => {
  const routes = () => {
    throw new ConnectError("broken", Code.Internal);
  };
  const peers = await Promise.all(
    [1, 2, 3].map(() => startPeer(t, (router) => router.service(BookService, { getBook: routes }))),
  );
  const options = {
    balancer: { policy: "round_robin" },
    breaker: { enabled: false },
    outlier_ejection: {
      interval: "10ms",
      max_ejection_percent: 50,
      failure_percentage: { min_hosts: 1, request_volume: 1 },
    },
  };
  const many = startPool(t, { address: peers.map(({ address }) => address), ...options });
  const ejected = () => many.pool.states()[0]?.endpoints.filter(({ ejectedForMs }) => ejectedForMs !== undefined);
  await until(() => {
    void many.books.getBook({ id: "b1" }).catch(() => {});
    return ejected()?.length === 2;
  });
  assert.equal((await failureOf(many.books.getBook({ id: "b1" }))).code, Code.Internal);

  const single = startPool(t, { address: peers[0]?.address ?? "", ...options });
  for (let i = 0; i < 10; i++) {
    assert.equal((await failureOf(single.books.getBook({ id: "b1" }))).code, Code.Internal);
    await delay(5);
  }
  assert.equal(single.pool.states()[0]?.endpoints[0]?.ejectedForMs, undefined);
});

for (const policy of POLICIES.filter((one) => one !== "pick_first")) {
  test(`${policy}: a retry goes to another peer, so that one that refuses everything harms no call`, async (t) => {
    let refused = 0;
    const busy = await startPeer(t, (router) =>
      router.service(BookService, {
        getBook() {
          refused++;
          throw new ConnectError("busy", Code.Unavailable);
        },
      }),
    );
    const good = await startNamed(t, "good");
    const started = startPool(t, {
      address: [busy.address, good.address],
      balancer: balancerOf(policy),
      retry: { max: 1, backoff: "1ms" },
      outlier_ejection: { enabled: false },
    });
    const { books, pool } = started;
    pool.connect();
    await until(() => [0, 1].every((index) => stateOf(started, index)?.state === "ready"));
    for (let i = 0; i < 50; i++) {
      const { book } = await books.getBook({ id: "b1" }, { headers: { "x-user-id": `${i}` } });
      assert.equal(book?.title, "good");
    }
    assert.ok(refused >= 1);
  });
}

for (const policy of POLICIES.filter((one) => one !== "pick_first")) {
  test(`${policy}: a hedge goes to another peer, and the slow one is told that nobody waits`, async (t) => {
    const signals: AbortSignal[] = [];
    const slow = await startPeer(t, (router) => {
      router.service(BookService, {
        getBook: (_, { signal }) => {
          signals.push(signal);
          return new Promise(() => {});
        },
      });
    });
    const good = await startNamed(t, "good");
    const started = startPool(t, {
      address: [slow.address, good.address],
      balancer: balancerOf(policy),
      hedge: { delay: "20ms" },
    });
    const { books, pool } = started;
    pool.connect();
    await until(() => [0, 1].every((index) => stateOf(started, index)?.state === "ready"));
    const users = Array.from({ length: 30 }, (_, i) => `${i}`);
    const calls = users.map((user) => books.getBook({ id: "b1" }, { headers: { "x-user-id": user } }));
    for (const { book } of await within(5_000, Promise.all(calls))) assert.equal(book?.title, "good");
    assert.ok(signals.length >= 1);
    await until(() => signals.every(({ aborted }) => aborted));
    assert.equal(pool.states()[0]?.openCalls, 0);
  });
}

test("subset: of many peers, so many are connected to, and another takes the place of one that is unlisted", async (t) => {
  const peers = await Promise.all(["0", "1", "2", "3", "4"].map((name) => startNamed(t, name)));
  const registry = await startConsul(t, Object.fromEntries(peers.map(({ port }) => [port, 1])));
  const { books, pool } = startPool(
    t,
    { address: "consul:///book-service", balancer: { policy: "round_robin", subset: 2 } },
    { discovery: discoverySection.parse({ consul: { address: registry.url } }) },
  );
  await until(() => {
    void books.getBook({ id: "b1" });
    const endpoints = pool.states()[0]?.endpoints ?? [];
    return endpoints.length === 2 && endpoints.every(({ state }) => state === "ready");
  });
  assert.equal(peers.filter(({ sessions }) => sessions.size > 0).length, 2);
  const used = pool.states()[0]?.endpoints.map(({ address }) => address) ?? [];
  const left = peers.filter(({ address }) => address !== used[0]);
  registry.change(Object.fromEntries(left.map(({ port }) => [port, 1])));
  await until(() => pool.states()[0]?.endpoints.every(({ address }) => address !== used[0]) === true);
  const now = pool.states()[0]?.endpoints.map(({ address }) => address) ?? [];
  assert.equal(now.length, 2);
  assert.ok(now.includes(used[1] ?? ""));
});

/** What Consul's HTTP API says of a service: ports on this machine, and their weights. */
async function startConsul(t: TestContext, initial: Record<number, number>) {
  let weights = initial;
  let index = 1;
  const waiting = new Set<() => void>();
  const server = http.createServer((req, res) => {
    const asked = Number(new URL(req.url ?? "", "http://consul").searchParams.get("index") ?? 0);
    const answer = () => {
      waiting.delete(answer);
      const entries = Object.entries(weights).map(([port, weight]) => ({
        Node: { Address: "127.0.0.1" },
        Service: { Address: "127.0.0.1", Port: Number(port), Weights: { Passing: weight } },
      }));
      res.setHeader("x-consul-index", index).end(JSON.stringify(entries));
    };
    if (asked >= index) waiting.add(answer);
    else answer();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    change(next: Record<number, number>) {
      weights = next;
      index++;
      for (const answer of [...waiting]) answer();
    },
  };
}

test("calls that begin in one turn are spread, though none has had an answer yet", async (t) => {
  const peers = await Promise.all(["one", "two"].map((name) => startNamed(t, name)));
  const { books, pool } = startPool(t, { address: peers.map(({ address }) => address) });
  pool.connect();
  await until(() => pool.states()[0]?.endpoints.every(({ state }) => state === "ready") === true);
  await answersOf(books, 20);
  for (let round = 0; round < 5; round++) {
    const answers = await Promise.all(Array.from({ length: 40 }, () => books.getBook({ id: "b1" })));
    const toOne = answers.filter(({ book }) => book?.title === "one").length;
    // One may have answered more slowly of late, but what it has in hand counts too.
    assert.ok(toOne > 0 && toOne < 40, `${toOne} of 40`);
  }
});

test("how long a stream goes on says nothing of how fast its peer is", async (t) => {
  const startBoth = (name: string) =>
    startPeer(t, (router) => {
      router.service(BookService, { getBook: () => ({ book: { title: name } }) });
      router.service(OrderService, {
        async *watchOrder({ id }, { signal }) {
          yield { order: { id } };
          await once(signal, "abort");
        },
      });
    });
  const peers = await Promise.all(["one", "two"].map(startBoth));
  const { books, pool } = startPool(t, { address: peers.map(({ address }) => address) });
  pool.connect();
  await until(() => pool.states()[0]?.endpoints.every(({ state }) => state === "ready") === true);
  const latencies = () => pool.states()[0]?.endpoints.map(({ latencyMs }) => latencyMs ?? 0) ?? [];
  await answersOf(books, 50);
  const before = Math.max(...latencies());
  const orders = pool.client("book-service", OrderService);
  for (const end of ["cancelled", "deadline"]) {
    const leaving = new AbortController();
    const options = end === "deadline" ? { timeoutMs: before + 300 } : { signal: leaving.signal };
    const stream = orders.watchOrder({ id: "o1" }, options)[Symbol.asyncIterator]();
    await stream.next();
    if (end === "cancelled") {
      await delay(before + 300);
      leaving.abort();
    }
    await failureOf(stream.next());
  }
  assert.ok(Math.max(...latencies()) <= before + 50, `${latencies()} after ${before}`);
});

test("a call that has waited for its peer tells it what is left of its time", async (t) => {
  const port = await freePort();
  const { books } = startPool(t, {
    address: `127.0.0.1:${port}`,
    connect_backoff: FAST_BACKOFF,
    wait_for_ready: true,
  });
  const call = books.getBook({ id: "b1" }, { timeoutMs: 20_000 });
  await delay(300);
  const told = Promise.withResolvers<number | undefined>();
  await startPeer(
    t,
    (router) =>
      router.service(BookService, {
        getBook(_request, context) {
          told.resolve(context.timeoutMs());
          return {};
        },
      }),
    { port },
  );
  await call;
  assert.ok(Number(await told.promise) <= 19_700, String(await told.promise));
});

test("closing the pool ends calls that wait to be retried, at their next attempt", async (t) => {
  const { books, pool } = startPool(t, {
    address: `127.0.0.1:${await freePort()}`,
    retry: { max: 4, timeout: "60s", backoff: "50ms", multiplier: 1 },
  });
  const call = failureOf(books.getBook({ id: "b1" }, { timeoutMs: 60_000 }));
  await until(() => pool.states()[0]?.state === "transient_failure");
  await pool.close();
  const error = await within(2_000, call);
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /closed/);
});
