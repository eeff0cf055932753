// A client compiled from the user.proto that the original design published (fixtures/original, word for word), as it is
// in use today: user-service and the gateway must serve it unchanged.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import grpc from "@grpc/grpc-js";
import { type Bookshop, startBookshop } from "../support/bookshop.ts";
import { clientOf, loadService, unary } from "../support/grpc-js.ts";

const originals = join(import.meta.dirname, "../fixtures/original");
const service = loadService("user/v1/user.proto", "user.v1.UserService", [originals]);

interface User {
  readonly id: string;
  readonly username: string;
  readonly email: string;
  /** int64, which grpc-js gives as text. */
  readonly created_at: string;
  readonly updated_at: string;
}

let shop: Bookshop;
before(async () => {
  shop = await startBookshop();
});
after(() => shop.close());

test("the fixture has what was published, and no more", () => {
  assert.deepEqual(Object.keys(service.service), ["SayHello", "CreateUser", "GetUser"]);
});

for (const entrance of ["user", "gateway"] as const) {
  describe(`at ${entrance}, a client of the original contract`, () => {
    const url = () => `http://127.0.0.1:${shop.portOf(entrance)}`;

    test("is greeted", async (t) => {
      const { error, response } = await unary(clientOf(t, service, url()), "SayHello", { name: "Ada" });
      assert.equal(error, null);
      assert.deepEqual(response, { message: "Hello Ada! No recommendation" });
    });

    test("creates a user without a request_id, and reads it, with its times in Unix seconds", async (t) => {
      const client = clientOf(t, service, url());
      const startedAt = Math.floor(Date.now() / 1_000);
      const email = `${randomUUID()}@example.com`;
      const { response: created } = await unary(client, "CreateUser", { username: "ada", email });
      const user = created?.["user"] as User;
      assert.deepEqual([user.username, user.email], ["ada", email]);
      const endedAt = Math.floor(Date.now() / 1_000);
      for (const seconds of [user.created_at, user.updated_at].map(Number)) {
        assert.ok(seconds >= startedAt && seconds <= endedAt, `${startedAt} ≤ ${seconds} ≤ ${endedAt}`);
      }
      const { response: read } = await unary(client, "GetUser", { id: user.id });
      assert.deepEqual(read, { user });
    });

    test("gets the codes that it knows for what is missing, and for what exists", async (t) => {
      const client = clientOf(t, service, url());
      const missing = await unary(client, "GetUser", { id: "u-1" });
      assert.equal(missing.error?.code, grpc.status.NOT_FOUND);
      const user = { username: "ada", email: `${randomUUID()}@example.com` };
      await unary(client, "CreateUser", user);
      const again = await unary(client, "CreateUser", user);
      assert.equal(again.error?.code, grpc.status.ALREADY_EXISTS);
    });
  });
}
