// `buf curl`, a client in Go, as people use it from a terminal: no schema named, the server tells it by reflection.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Bookshop, startBookshop } from "../support/bookshop.ts";
import { clientsAt } from "../support/clients.ts";
import { repository } from "../support/service-process.ts";

let shop: Bookshop;
before(async () => {
  shop = await startBookshop();
});
after(() => shop.close());

for (const protocol of ["grpc", "grpcweb", "connect"]) {
  describe(`in the protocol ${protocol}, buf curl`, () => {
    const curl = (...args: string[]) => bufCurl("--protocol", protocol, ...args);

    test("calls a service, and the same through the gateway", async () => {
      for (const service of ["user", "gateway"] as const) {
        const { json } = await curl("-d", '{"name":"Ada"}', urlOf(service, "user.v1.UserService/SayHello"));
        assert.deepEqual(json, [{ message: "Hello Ada! No recommendation" }]);
      }
    });

    test("prints an error's code and reason", async () => {
      const id = randomUUID();
      for (const service of ["user", "gateway"] as const) {
        const { code, error } = await curl("-d", `{"id":"${id}"}`, urlOf(service, "user.v1.UserService/GetUser"));
        assert.notEqual(code, 0);
        assert.equal(error?.code, "not_found");
        // Decoded by the server's own schema of google.rpc.ErrorInfo.
        const [info] = error.details.map(({ debug, type }) => ({ type, ...debug }));
        assert.equal(info?.type, "google.rpc.ErrorInfo");
        assert.equal(info.reason, "USER_NOT_FOUND");
        assert.deepEqual(info.metadata, { user_id: id });
      }
    });

    test("follows a stream to its end", async () => {
      const { users, books, orders } = clientsAt(shop.url);
      const { user } = await users.createUser({ username: "ada", email: `${randomUUID()}@example.com` });
      const newBook = { requestId: randomUUID(), title: "T", author: "A", priceCents: 1n, stock: 0 };
      const { book } = await books.createBook({ ...newBook, stock: 1 });
      const items = [{ bookId: book!.id, quantity: 1 }];
      const { order } = await orders.createOrder({ requestId: randomUUID(), userId: user!.id, items });
      const watching = curl("-d", `{"id":"${order!.id}"}`, urlOf("gateway", "order.v1.OrderService/WatchOrder"));
      // Its access log line comes at the end, so the pool's look at the database is what shows that it watches.
      await shop.logs.gateway.line({ method: "grpc.reflection.v1.ServerReflection/ServerReflectionInfo" });
      await shop.confirm(order!.id);
      const { code, json } = await watching;
      assert.equal(code, 0);
      const statuses = json.map((answer) => (answer as { order: { status: string } }).order.status);
      assert.equal(statuses.at(-1), "ORDER_STATUS_CONFIRMED");
    });
  });
}

test("buf curl lists services and methods", async () => {
  const { lines: services } = await bufCurl("--list-services", urlOf("gateway"));
  for (const name of ["user.v1.UserService", "book.v1.BookService", "order.v1.OrderService", "grpc.health.v1.Health"]) {
    assert.ok(services.includes(name), `${name} in ${services}`);
  }
  const { lines: methods } = await bufCurl("--list-methods", urlOf("user"));
  for (const name of ["SayHello", "CreateUser", "GetUser", "ListUsers"]) {
    assert.ok(methods.includes(`user.v1.UserService/${name}`), `${name} in ${methods}`);
  }
});

function urlOf(service: "user" | "gateway", path = ""): string {
  return `http://127.0.0.1:${shop.portOf(service)}/${path}`;
}

interface Outcome {
  readonly code: number;
  readonly lines: readonly string[];
  /** What was answered, one message after the other. */
  readonly json: readonly unknown[];
  readonly error?: CurlError;
}

interface CurlError {
  readonly code: string;
  readonly details: readonly { type: string; debug?: { reason: string; metadata: Record<string, string> } }[];
}

function bufCurl(...args: string[]): Promise<Outcome> {
  const buf = join(repository, "node_modules/.bin/buf");
  const all = ["curl", "--http2-prior-knowledge", ...args];
  return new Promise((resolve) => {
    execFile(buf, all, { cwd: repository, timeout: 30_000 }, (failure, stdout, stderr) => {
      const code = failure === null ? 0 : Number(failure.code);
      const isError = code !== 0 && stderr.trimStart().startsWith("{");
      resolve({
        code,
        lines: stdout.split("\n").filter((line) => line !== ""),
        json: isError || !stdout.startsWith("{") ? [] : documents(stdout),
        ...(isError && { error: JSON.parse(stderr) as CurlError }),
      });
    });
  });
}

/** buf prints messages indented, one after the other: each ends with a brace at a line's start. */
function documents(text: string): unknown[] {
  return text
    .split(/(?<=^\})\n/m)
    .filter((part) => part.trim() !== "")
    .map((part) => JSON.parse(part) as unknown);
}
