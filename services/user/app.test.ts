import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { DomainError } from "#shared/errors";
import {
  clientAt,
  deadUrl,
  embeddedForTest,
  never,
  refusalOf,
  serverDeadline,
  silent,
  startPeer,
} from "#shared/testing";
import { createUserApp } from "./app.ts";
import { userConfigSection } from "./config.ts";

/** The app on any port; `books` is book-service as the YAML has it, without its name. */
async function start(t: TestContext, books?: { address: string; timeout?: string }) {
  const config = userConfigSection.parse({
    server: { name: "user-service", host: "127.0.0.1", port: 0 },
    grpc_clients: { services: books === undefined ? [] : [{ name: "book-service", ...books }] },
  });
  const app = createUserApp(config, { logger: silent, embedded: await embeddedForTest() });
  await app.start();
  const client = clientAt(t, app.url, UserService);
  t.after(() => app.stop());
  await app.ready(AbortSignal.timeout(20_000));
  return client;
}

const newUser = () => ({ username: "ada", email: `${randomUUID()}@example.com` });

describe("SayHello", () => {
  const greeting = { name: "Ada" };
  const inTime = serverDeadline(1_000);

  test("greets with what book-service recommends to the name", async (t) => {
    const peer = await startPeer(t, ({ service }) =>
      service(BookService, { getRecommendation: ({ userId }) => ({ recommendation: `For ${userId}.` }) }),
    );
    const client = await start(t, { address: peer.url });
    assert.equal((await client.sayHello(greeting)).message, "Hello Ada! For Ada.");
  });

  test("greets without a recommendation when book-service has none", async (t) => {
    const peer = await startPeer(t, ({ service }) =>
      service(BookService, {
        getRecommendation() {
          throw new DomainError("not_found", "NO_RECOMMENDATION", "none");
        },
      }),
    );
    const client = await start(t, { address: peer.url });
    assert.equal((await client.sayHello(greeting)).message, "Hello Ada! No recommendation");
  });

  test("greets within the deadline when book-service is down", async (t) => {
    const client = await start(t, { address: await deadUrl(t) });
    for (let n = 0; n < 3; n++) {
      assert.equal((await client.sayHello(greeting, inTime)).message, "Hello Ada! No recommendation");
    }
  });

  test("greets within the deadline when book-service never answers", async (t) => {
    const peer = await startPeer(t, ({ service }) => service(BookService, { getRecommendation: never }));
    const client = await start(t, { address: peer.url, timeout: "30s" });
    for (const ms of [100, 500]) {
      assert.equal((await client.sayHello(greeting, serverDeadline(ms))).message, "Hello Ada! No recommendation");
    }
  });

  test("greets after book-service's own timeout when the caller has all the time", async (t) => {
    const peer = await startPeer(t, ({ service }) => service(BookService, { getRecommendation: never }));
    const client = await start(t, { address: peer.url, timeout: "50ms" });
    assert.equal((await client.sayHello(greeting)).message, "Hello Ada! No recommendation");
  });

  test("says so when no book-service is configured", async (t) => {
    const client = await start(t);
    assert.equal((await client.sayHello(greeting, inTime)).message, "Hello Ada! Book service not available");
  });

  test("greets without a recommendation when book-service goes away in between", async (t) => {
    const peer = await startPeer(t, ({ service }) =>
      service(BookService, { getRecommendation: () => ({ recommendation: "Here." }) }),
    );
    const client = await start(t, { address: peer.url });
    assert.equal((await client.sayHello(greeting)).message, "Hello Ada! Here.");
    await peer.stop();
    assert.equal((await client.sayHello(greeting, inTime)).message, "Hello Ada! No recommendation");
  });
});

test("a user is created, read and listed", async (t) => {
  const client = await start(t);
  const request = newUser();
  const { user } = await client.createUser(request);
  assert.ok(user);
  assert.deepEqual({ username: user.username, email: user.email }, request);
  assert.deepEqual((await client.getUser({ id: user.id })).user, user);
  const { users } = await client.listUsers({ pageSize: 500 });
  assert.deepEqual(
    users.find(({ id }) => id === user.id),
    user,
  );
});

test("repeats of one request at the same moment create one user", async (t) => {
  const client = await start(t);
  const request = { ...newUser(), requestId: randomUUID() };
  const answers = await Promise.all(Array.from({ length: 8 }, () => client.createUser(request)));
  assert.equal(new Set(answers.map(({ user }) => user?.id)).size, 1);
});

test("requests that break their rules are refused by field", async (t) => {
  const client = await start(t);
  const refused = async (call: Promise<unknown>) => {
    const { code, reason, fields } = await refusalOf(call);
    assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "VALIDATION_FAILED" });
    return fields;
  };
  assert.deepEqual(await refused(client.sayHello({})), ["name"]);
  assert.deepEqual(await refused(client.createUser({ email: "no", requestId: "no" })), [
    "username",
    "email",
    "request_id",
  ]);
  assert.deepEqual(await refused(client.getUser({})), ["id"]);
  assert.deepEqual(await refused(client.listUsers({ pageSize: 501 })), ["page_size"]);
});
