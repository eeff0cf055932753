// `buf curl`, a client in Go, as people use it from a terminal: no schema named, the server tells it by reflection.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
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
        assert.match((json[0] as { message: string }).message, /^Hello Ada! /);
      }
    });

    test("prints an error's code and reason", async () => {
      const id = randomUUID();
      for (const service of ["user", "gateway"] as const) {
        const { code, error } = await curl("-d", `{"id":"${id}"}`, urlOf(service, "user.v1.UserService/GetUser"));
        assert.notEqual(code, 0);
        assert.equal(error?.code, "not_found");
        const [detail] = error.details;
        assert.equal(detail?.type, "google.rpc.ErrorInfo");
        const info = fromBinary(ErrorInfoSchema, Buffer.from(detail.value, "base64"));
        assert.equal(info.reason, "USER_NOT_FOUND");
        assert.deepEqual(info.metadata, { user_id: id });
      }
    });

    test("follows a stream to its end", async () => {
      const { users, books, orders } = clientsAt(shop.url);
      const { user } = await users.createUser({ username: "ada", email: `${randomUUID()}@example.com` });
      const newBook = { requestId: randomUUID(), title: "T", author: "A", priceCents: 1n, stock: 1 };
      const { book } = await books.createBook(newBook);
      const release = shop.holdEvents();
      const items = [{ bookId: book!.id, quantity: 1 }];
      const { order } = await orders.createOrder({ requestId: randomUUID(), userId: user!.id, items });
      const watching = curl("-d", `{"id":"${order!.id}"}`, urlOf("gateway", "order.v1.OrderService/WatchOrder"));
      await watching.firstAnswer;
      release();
      const { code, json } = await watching;
      assert.equal(code, 0);
      const statuses = json.map((answer) => (answer as { order: { status: string } }).order.status);
      assert.deepEqual(statuses, ["ORDER_STATUS_PENDING", "ORDER_STATUS_CONFIRMED"]);
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
  /** The value in base64, as buf prints it. */
  readonly details: readonly { type: string; value: string }[];
}

/** The end of the process, and before it the first that it prints. */
type Running = Promise<Outcome> & { readonly firstAnswer: Promise<unknown> };

function bufCurl(...args: string[]): Running {
  const buf = join(repository, "node_modules/.bin/buf");
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const options = { cwd: repository, timeout: 30_000 };
  const child = execFile(buf, ["curl", "--http2-prior-knowledge", ...args], options, (failure, stdout, stderr) => {
    const error = /^\{/.test(stderr) ? (JSON.parse(stderr) as CurlError) : undefined;
    resolve({
      code: failure === null ? 0 : Number(failure.code),
      lines: stdout.split("\n").filter((line) => line !== ""),
      json: /^\{/.test(stdout) ? documents(stdout) : [],
      ...(error !== undefined && { error }),
    });
  });
  const firstAnswer = once(child.stdout!, "data", { signal: AbortSignal.timeout(30_000) });
  firstAnswer.catch(() => {}); // Whoever waits for it is told.
  return Object.assign(promise, { firstAnswer });
}

/** buf prints messages indented, one after the other: each ends with a brace at a line's start. */
function documents(text: string): unknown[] {
  return text
    .split(/(?<=^\})\n/m)
    .filter((part) => part.trim() !== "")
    .map((part) => JSON.parse(part) as unknown);
}
