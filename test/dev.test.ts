// `npm run dev`: what a newcomer starts first.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { OrderStatus } from "#gen/order/v1/order_pb.ts";
import { until, within } from "#shared/testing";
import { clientsAt } from "./support/clients.ts";
import { freePort } from "./support/free-port.ts";
import { blocksOf, call, curlIn, sectionOf } from "./support/readme.ts";
import { copyRepository } from "./support/repository-copy.ts";
import { killPrograms, type Program, runProgram } from "./support/service-process.ts";

const names = ["gateway", "user", "book", "order"] as const;

after(killPrograms);

test("npm run dev", { timeout: 180_000 }, async (t) => {
  const dev = await developIn(t);
  let running = dev.run();
  const suggestion = curlIn(await running.line(/^ +curl /));
  const { users, books, orders } = clientsAt(dev.urls.gateway);
  const { books: seeds } = await books.listBooks({});
  const { user } = await users.createUser({ username: "ada", email: "ada@example.com" });
  const items = [{ bookId: seeds.find(({ stock }) => stock > 0)!.id, quantity: 1 }];
  const purchase = { requestId: randomUUID(), userId: user!.id, items };

  await t.test("suggests the call of README.md, which answers what stands there", async () => {
    const shown = blocksOf(sectionOf("Try it")).find(({ text }) => text.startsWith("$ curl "))!.text;
    assert.deepEqual(suggestion, { ...curlIn(shown), url: dev.urls.gateway });
    assert.equal(await call(suggestion), shown.trim().split("\n").at(-1));
  });

  await t.test("says what is up, and where", () => {
    const lines = running.stdout.map((line) => line.trim());
    for (const name of names) assert.ok(lines.includes(`${name.padEnd(8)} ${dev.urls[name]}`), name);
  });

  await t.test("can take an order as soon as it says that it is up", async () => {
    await orders.createOrder(purchase);
  });

  await t.test("refuses a second one on the same data, and goes on", async () => {
    const second = dev.run();
    assert.equal(await within(second.exit, "the second's end", 120_000), 1);
    const said = second.stdout.join("\n") + second.stderr();
    assert.match(said, /\.data\/dev/);
    assert.match(said, new RegExp(`\\b${running.pid}\\b`), "it names the process that has it");
    assert.equal((await fetch(`${dev.urls.gateway}/readyz`)).status, 200);
  });

  await t.test("ends with 0 on Ctrl-C, and has its data when it is started again", async () => {
    await until("order-service to reach its peers", () =>
      orders.createOrder(purchase).then(
        () => true,
        () => false,
      ),
    );
    const { order } = await orders.createOrder(purchase);
    const [bought] = purchase.items;
    const left = seeds.map((book) => (book.id === bought!.bookId ? book.stock - 1 : book.stock));
    const stocks = async () => (await books.listBooks({})).books.map(({ stock }) => stock);
    const updates = await within(Array.fromAsync(orders.watchOrder({ id: order!.id })), "the order's end");
    const sold = updates.at(-1)!.order!;
    assert.equal(sold.status, OrderStatus.CONFIRMED);
    assert.deepEqual(await stocks(), left);
    await users.sayHello({ name: "ada" });
    const greeted = { ...user, greetings: 1n };
    const known = async () => (await users.getUser({ id: user!.id })).user!;
    await until("the greeting to be counted", async () => (await known()).greetings === 1n);
    assert.equal(await running.end("SIGINT"), 0);
    assert.ok(existsSync(join(dev.folder, ".data/dev")), "where it keeps its data unless told otherwise");

    running = dev.run();
    await running.line(/^ +curl /);
    assert.deepEqual(await known(), greeted);
    assert.deepEqual((await orders.getOrder({ id: sold.id })).order, sold);
    assert.deepEqual(await stocks(), left);
    assert.equal(await running.end("SIGTERM"), 0);
  });
});

/** A copy of the repository whose services have ports of this test: the shipped ones may be taken. */
async function developIn(t: TestContext) {
  const copy = await copyRepository(t);
  const ports = new Map<string, number>();
  for (const name of names) {
    const port = await freePort();
    ports.set(name, port);
    await copy.edit(`services/${name}/config.yaml`, (yaml) => yaml.replace(/\$\{SERVER_PORT:-\d+\}/, String(port)));
  }
  const urlOf = (name: string) => `http://127.0.0.1:${ports.get(name)}`;
  const env = {
    USER_SERVICE_ADDRESS: urlOf("user"),
    BOOK_SERVICE_ADDRESS: urlOf("book"),
    ORDER_SERVICE_ADDRESS: urlOf("order"),
  };
  return {
    folder: copy.folder,
    urls: Object.fromEntries(names.map((name) => [name, urlOf(name)])) as Record<(typeof names)[number], string>,
    run: (): Program => runProgram("services/dev.ts", { env, cwd: copy.folder }),
  };
}
