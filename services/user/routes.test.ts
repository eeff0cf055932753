import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { UserErrorReasonSchema, UserService } from "#gen/user/v1/user_pb.ts";
import { clientOf, recordLog, refusalOf, silent } from "#shared/testing";
import { createMemoryRepository } from "./memory-repository.ts";
import { userRoutes } from "./routes.ts";
import { type Announce, createUsers, type Greeting, type Recommend, type UserErrorReason } from "./users.ts";

function start(recommend?: Recommend, announce: Announce = async () => {}, logger = silent) {
  const users = createUsers({ repository: createMemoryRepository(), recommend, announce, logger });
  return clientOf(UserService, userRoutes(users));
}

const ada = { username: "ada", email: "ada@example.com" };

describe("SayHello", () => {
  test("greets with the recommendation for the name", async () => {
    const { message } = await start(async (userId) => `Read this, ${userId}.`).sayHello({ name: "Ada" });
    assert.equal(message, "Hello Ada! Read this, Ada.");
  });

  test("greets without one when no book suits", async () => {
    const { message } = await start(async () => undefined).sayHello({ name: "Ada" });
    assert.equal(message, "Hello Ada! No recommendation");
  });

  test("greets without one when book-service fails", async () => {
    const { message } = await start(async () => Promise.reject(new Error("down"))).sayHello({ name: "Ada" });
    assert.equal(message, "Hello Ada! No recommendation");
  });

  test("says so when there is no book-service", async () => {
    assert.equal((await start().sayHello({ name: "Ada" })).message, "Hello Ada! Book service not available");
  });

  test("announces what it has said", async () => {
    const announced: Greeting[] = [];
    const announce: Announce = async (greeting) => void announced.push(greeting);
    const { message } = await start(async () => "Read this.", announce).sayHello({ name: "Ada" });
    assert.deepEqual(announced, [{ name: "Ada", message }]);
  });

  test("greets all the same when that cannot be announced, and logs it", async () => {
    const log = recordLog();
    const announce: Announce = () => Promise.reject(new Error("the database is away"));
    const { message } = await start(undefined, announce, log.logger).sayHello({ name: "Ada" });
    assert.equal(message, "Hello Ada! Book service not available");
    const { error } = await log.line({ level: "warn", msg: "greeting not announced" });
    assert.match(String(error), /the database is away/);
  });

  test("does not wait for announcements, and has at most a thousand of them under way", async () => {
    const log = recordLog();
    let announced = 0;
    const over = Promise.withResolvers<void>();
    const announce: Announce = () => {
      announced++;
      return over.promise;
    };
    const client = start(undefined, announce, log.logger);
    for (let n = 0; n < 1_001; n++) await client.sayHello({ name: "Ada" });
    assert.equal(announced, 1_000);
    assert.equal(log.matching({ level: "warn", msg: "greeting not announced" }).length, 1);
    over.resolve();
    await over.promise;
    await client.sayHello({ name: "Ada" });
    assert.equal(announced, 1_001);
  });
});

describe("CreateUser", () => {
  test("answers the user, with times in Unix seconds", async () => {
    const before = BigInt(Math.floor(Date.now() / 1_000));
    const { user } = await start().createUser(ada);
    const after = BigInt(Math.floor(Date.now() / 1_000));
    assert.ok(user);
    const { id, username, email, createdAt, updatedAt, greetings } = user;
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    assert.deepEqual({ username, email }, ada);
    assert.ok(createdAt >= before && createdAt <= after);
    assert.equal(updatedAt, createdAt);
    assert.equal(greetings, 0n);
  });

  test("answers a repeat of the request with the first user", async () => {
    const client = start();
    const request = { ...ada, requestId: randomUUID() };
    const first = await client.createUser(request);
    assert.deepEqual(await client.createUser(request), first);
    assert.equal((await client.listUsers({})).users.length, 1);
  });

  test("refuses a request id that was used for other fields", async () => {
    const client = start();
    const requestId = randomUUID();
    await client.createUser({ ...ada, requestId });
    for (const other of [{ username: "bob" }, { email: "bob@example.com" }]) {
      assert.deepEqual(await refusalOf(client.createUser({ ...ada, ...other, requestId })), {
        code: "already_exists",
        reason: "REQUEST_ID_REUSED",
        metadata: { request_id: requestId },
        fields: [],
      });
    }
  });

  test("refuses an e-mail that is taken", async () => {
    const client = start();
    await client.createUser(ada);
    for (const requestId of ["", randomUUID()]) {
      assert.deepEqual(await refusalOf(client.createUser({ ...ada, requestId })), {
        code: "already_exists",
        reason: "EMAIL_TAKEN",
        metadata: { email: ada.email },
        fields: [],
      });
    }
  });
});

describe("GetUser", () => {
  test("answers the user", async () => {
    const client = start();
    const { user } = await client.createUser(ada);
    assert.deepEqual((await client.getUser({ id: user?.id ?? "" })).user, user);
  });

  test("refuses an unknown id", async () => {
    assert.deepEqual(await refusalOf(start().getUser({ id: "nobody" })), {
      code: "not_found",
      reason: "USER_NOT_FOUND",
      metadata: { user_id: "nobody" },
      fields: [],
    });
  });
});

describe("ListUsers", () => {
  test("answers 50 a page unless told otherwise, and a token for the next", async () => {
    const client = start();
    for (let n = 0; n < 51; n++) await client.createUser({ username: `user${n}`, email: `user${n}@example.com` });
    const first = await client.listUsers({});
    const second = await client.listUsers({ pageToken: first.nextPageToken });
    const names = [...first.users, ...second.users].map(({ username }) => username);
    assert.deepEqual([first.users.length, second.users.length], [50, 1]);
    assert.deepEqual(
      names,
      Array.from({ length: 51 }, (_, n) => `user${n}`),
    );
    assert.equal(second.nextPageToken, "");
    assert.equal((await client.listUsers({ pageSize: 7 })).users.length, 7);
  });

  test("refuses a token that it has not given", async () => {
    const { code, reason } = await refusalOf(start().listUsers({ pageToken: "x" }));
    assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "PAGE_TOKEN_INVALID" });
  });
});

test("the reasons of the domain are those of the contract", () => {
  const reasons: Record<UserErrorReason, true> = { USER_NOT_FOUND: true, EMAIL_TAKEN: true, REQUEST_ID_REUSED: true };
  const contract = UserErrorReasonSchema.values.map(({ localName }) => localName);
  assert.deepEqual(["UNSPECIFIED", ...Object.keys(reasons)].sort(), contract.sort());
});
