// A web page, in a real browser, of another origin than the gateway that it calls.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { OrderStatus } from "#gen/order/v1/order_pb.ts";
import { type Bookshop, startBookshop } from "./support/bookshop.ts";
import { clientsAt } from "./support/clients.ts";
import { type PageServer, startPageServer } from "./support/page-server.ts";
import { skipWithout } from "./support/skip.ts";

const executablePath = process.env["TEST_CHROMIUM"] ?? "/usr/bin/chromium";
const skip = skipWithout(`Chromium at ${executablePath} (TEST_CHROMIUM)`, existsSync(executablePath));

const args = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

describe("a page", { skip, timeout: 120_000 }, () => {
  let pages: PageServer;
  let strangers: PageServer;
  let shop: Bookshop;
  let browser: Browser;
  let page: Page;

  before(async () => {
    [pages, strangers] = await Promise.all([startPageServer(), startPageServer()]);
    [shop, browser] = await Promise.all([
      startBookshop({ origins: [pages.origin] }),
      chromium.launch({ executablePath, args }),
    ]);
    page = await browser.newPage();
    await page.goto(pages.origin);
  });
  after(async () => {
    await browser?.close();
    await shop?.close();
    await Promise.all([pages?.close(), strangers?.close()]);
  });

  test("of an allowed origin calls by plain fetch, after a preflight, and reads the request id", async () => {
    const { status, json, requestId } = await page.evaluate(greetByFetch, shop.url);
    assert.equal(status, 200);
    assert.deepEqual(json, { message: "Hello Ada! No recommendation" });
    assert.ok(requestId);
    await shop.logs.gateway.line({ method: "OPTIONS /user.v1.UserService/SayHello", status: 204 });
  });

  test("of an allowed origin gets the reason of a refusal by plain fetch", async () => {
    const { status, code, value } = await page.evaluate(async (url) => {
      const response = await fetch(`${url}/user.v1.UserService/GetUser`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: '{"id":"7"}',
      });
      const error = (await response.json()) as { code: string; details: { value: string }[] };
      return { status: response.status, code: error.code, value: error.details[0]?.value };
    }, shop.url);
    assert.deepEqual([status, code], [404, "not_found"]);
    assert.match(Buffer.from(value ?? "", "base64").toString("latin1"), /USER_NOT_FOUND/);
  });

  test("of another origin is refused by the browser", async () => {
    const stranger = await browser.newPage();
    await stranger.goto(strangers.origin);
    const name = await stranger.evaluate(
      (url) =>
        fetch(`${url}/user.v1.UserService/SayHello`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: '{"name":"Ada"}',
        }).then(
          () => "an answer",
          (error: Error) => error.name,
        ),
      shop.url,
    );
    assert.equal(name, "TypeError");
    await stranger.close();
  });

  for (const transport of ["createConnectTransport", "createGrpcWebTransport"] as const) {
    describe(`with connect-web's ${transport}`, () => {
      test("makes a unary call", async () => {
        const message = await page.evaluate(
          async ({ url, transport }) => {
            const { createClient } = await import("@connectrpc/connect");
            const web = await import("@connectrpc/connect-web");
            const { UserService } = await import("#gen/user/v1/user_pb.ts");
            const client = createClient(UserService, web[transport]({ baseUrl: url }));
            return (await client.sayHello({ name: "Ada" })).message;
          },
          { url: shop.url, transport },
        );
        assert.match(message, /^Hello Ada! /);
      });

      test("reads an error's code, reason and metadata", async () => {
        const error = await page.evaluate(
          async ({ url, transport }) => {
            const { Code, ConnectError, createClient } = await import("@connectrpc/connect");
            const web = await import("@connectrpc/connect-web");
            const { ErrorInfoSchema } = await import("#gen/google/rpc/error_details_pb.ts");
            const { UserService } = await import("#gen/user/v1/user_pb.ts");
            const client = createClient(UserService, web[transport]({ baseUrl: url }));
            const error = ConnectError.from(await client.getUser({ id: "7" }).catch((error: unknown) => error));
            const [info] = error.findDetails(ErrorInfoSchema);
            return { code: Code[error.code], reason: info?.reason, metadata: info?.metadata };
          },
          { url: shop.url, transport },
        );
        assert.deepEqual(error, { code: "NotFound", reason: "USER_NOT_FOUND", metadata: { user_id: "7" } });
      });

      test("follows a stream, item by item", async () => {
        const release = shop.holdEvents();
        const id = await newOrder();
        // The page asks for the change only once it has seen what was before.
        const change = `change_${randomUUID().replaceAll("-", "")}`;
        await page.exposeFunction(change, release);
        const seen = await page.evaluate(
          async ({ url, transport, id, change }) => {
            const { createClient } = await import("@connectrpc/connect");
            const web = await import("@connectrpc/connect-web");
            const { OrderService } = await import("#gen/order/v1/order_pb.ts");
            const client = createClient(OrderService, web[transport]({ baseUrl: url }));
            const seen: (number | undefined)[] = [];
            for await (const { order } of client.watchOrder({ id })) {
              seen.push(order?.status);
              if (seen.length === 1) await (globalThis as unknown as Record<string, () => Promise<void>>)[change]?.();
            }
            return seen;
          },
          { url: shop.url, transport, id, change },
        );
        assert.deepEqual(seen, [OrderStatus.PENDING, OrderStatus.CONFIRMED]);
      });
    });
  }

  test("with connect-web's useHttpGet reads by GET, and writes by POST", async () => {
    const requests: string[] = [];
    const record = (request: { method(): string; url(): string }) => {
      if (request.url().startsWith(shop.url)) requests.push(`${request.method()} ${new URL(request.url()).pathname}`);
    };
    page.on("request", record);
    await page.evaluate(
      async ({ url, email }) => {
        const { createClient } = await import("@connectrpc/connect");
        const { createConnectTransport } = await import("@connectrpc/connect-web");
        const { UserService } = await import("#gen/user/v1/user_pb.ts");
        const client = createClient(UserService, createConnectTransport({ baseUrl: url, useHttpGet: true }));
        const { user } = await client.createUser({ username: "ada", email });
        await client.getUser({ id: user?.id ?? "" });
      },
      { url: shop.url, email: `${randomUUID()}@example.com` },
    );
    page.off("request", record);
    assert.deepEqual(requests, ["POST /user.v1.UserService/CreateUser", "GET /user.v1.UserService/GetUser"]);
  });

  async function newOrder(): Promise<string> {
    const { users, books, orders } = clientsAt(shop.url);
    const { user } = await users.createUser({ username: "ada", email: `${randomUUID()}@example.com` });
    const newBook = { requestId: randomUUID(), title: "T", author: "A", priceCents: 1n, stock: 1 };
    const { book } = await books.createBook(newBook);
    const items = [{ bookId: book!.id, quantity: 1 }];
    const { order } = await orders.createOrder({ requestId: randomUUID(), userId: user!.id, items });
    return order!.id;
  }
});

/** Runs in the page. */
async function greetByFetch(url: string) {
  const response = await fetch(`${url}/user.v1.UserService/SayHello`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"name":"Ada"}',
  });
  return {
    status: response.status,
    json: (await response.json()) as unknown,
    requestId: response.headers.get("x-request-id"),
  };
}
