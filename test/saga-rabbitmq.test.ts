// The saga as in production: each service a process, order-service two, on PostgreSQL and RabbitMQ.

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Connection } from "rabbitmq-client";
import { OrderStatus } from "#gen/order/v1/order_pb.ts";
import { postgresForTest, type RabbitmqForTest, rabbitmqForTest, until, within } from "#shared/testing";
import { type BookshopClients, clientsAt } from "./support/clients.ts";
import { freePort } from "./support/free-port.ts";
import {
  killPrograms,
  ready,
  repository,
  runProgram,
  type ServiceProcess,
  startService,
} from "./support/service-process.ts";

const { PENDING, CONFIRMED } = OrderStatus;
/** The queues that belong to a queue, with the delays that are shipped. */
const BESIDES = [".dead", ".retry.1s", ".retry.5s", ".retry.30s", ".retry.2m", ".retry.10m"];

test("the saga on RabbitMQ", { timeout: 180_000 }, async (t) => {
  const [rabbitmq, databaseUrl] = [await rabbitmqForTest(t), await postgresForTest(t)];
  if (rabbitmq === undefined || databaseUrl === undefined) return;
  t.after(killPrograms);
  const shop = await startShop(t, rabbitmq, databaseUrl);
  const { users } = clientsAt(shop.user.url);
  const { books } = clientsAt(shop.book.url);
  const replicas = [clientsAt(shop.order.url).orders, clientsAt(shop.secondOrder.url).orders] as const;
  const { user } = await users.createUser({ username: "ada", email: "ada@example.com" });

  const newBook = async (stock: number) => {
    const book = { title: "House", author: "Tracy Kidder", priceCents: 1_399n, stock, requestId: randomUUID() };
    return (await books.createBook(book)).book!.id;
  };
  const stockOf = async (id: string) => (await books.getBook({ id })).book?.stock;
  const place = async (orders: BookshopClients["orders"], bookId: string, headers: Record<string, string> = {}) => {
    const request = { requestId: randomUUID(), userId: user!.id, items: [{ bookId, quantity: 1 }] };
    return (await orders.createOrder(request, { headers })).order!.id;
  };
  const watched = async (orders: BookshopClients["orders"], id: string) => {
    const updates = await within(Array.fromAsync(orders.watchOrder({ id })), "the order's end", 30_000);
    return updates.map(({ order }) => order!.status);
  };

  // A peer that was not up when order-service started is tried again after a second.
  const anyBook = await newBook(1_000);
  for (const orders of replicas) {
    await until("order-service to reach its peers", () =>
      place(orders, anyBook).then(
        () => true,
        () => false,
      ),
    );
  }

  await t.test("an order is confirmed, with one trace id in every service", async () => {
    const book = await newBook(1);
    const traceId = randomBytes(16).toString("hex");
    const id = await place(replicas[0], book, { traceparent: `00-${traceId}-00f067aa0ba902b7-01` });
    assert.equal((await watched(replicas[0], id)).at(-1), CONFIRMED);
    assert.equal(await stockOf(book), 0);
    const fields = { level: "info", order_id: id, trace_id: traceId };
    await until("book-service's line", () => logged(shop.book, { ...fields, msg: "stock reserved" }));
    await until("order-service's line", () =>
      [shop.order, shop.secondOrder].some((service) => logged(service, { ...fields, msg: "order confirmed" })),
    );
  });

  await t.test("a watch at one replica sees at once what the other has handled", async () => {
    const seenElsewhere = new Set<ServiceProcess>();
    // RabbitMQ gives events to the replicas by turns.
    while (seenElsewhere.size < 2) {
      const id = await place(replicas[0], anyBook);
      const watches = await Promise.all(replicas.map((orders) => watched(orders, id)));
      for (const statuses of watches) assert.equal(statuses.at(-1), CONFIRMED);
      const confirmed = { msg: "order confirmed", order_id: id };
      for (const [n, handler] of [shop.order, shop.secondOrder].entries()) {
        if (logged(handler, confirmed) && watches[1 - n]![0] === PENDING) seenElsewhere.add(handler);
      }
    }
  });

  await t.test("a book-service that is killed among orders loses none of them and takes no book twice", async () => {
    const book = await newBook(25);
    const ids = await Promise.all(Array.from({ length: 30 }, (_, n) => place(replicas[n % 2]!, book)));
    await shop.killBookService();
    const ends = await Promise.all(ids.map((id) => watched(replicas[0], id)));
    assert.equal(ends.filter((statuses) => statuses.at(-1) === CONFIRMED).length, 25);
    assert.equal(await stockOf(book), 0);
  });

  await t.test("greetings are counted, also those of a publisher of the original design", async () => {
    await users.sayHello({ name: user!.username });
    await publishHello(rabbitmq.url, shop.exchange, user!.username);
    const greetings = async () => (await users.getUser({ id: user!.id })).user?.greetings;
    await until("both greetings to be counted", async () => (await greetings()) === 2n);
  });

  assert.deepEqual(await shop.stop(), [0, 0, 0, 0]);
});

test("a queue that was declared otherwise ends a service with 1, and the log says which", async (t) => {
  const rabbitmq = await rabbitmqForTest(t);
  if (rabbitmq === undefined) return;
  t.after(killPrograms);
  const queue = rabbitmq.name("user", ...BESIDES);
  await withBroker(rabbitmq.url, (connection) =>
    connection.queueDeclare({ queue, durable: true, arguments: { "x-queue-type": "classic" } }),
  );
  const env = {
    SERVER_PORT: "0",
    DATABASE_URL: "pglite:memory",
    RABBITMQ_URL: rabbitmq.url,
    RABBITMQ_EXCHANGE: rabbitmq.name("bookshop"),
    RABBITMQ_QUEUE: queue,
  };
  const service = runProgram("services/user/main.ts", { env });
  assert.equal(await within(service.exit, "its end", 30_000), 1);
  const fatal = service.stdout.find((line) => line.includes("cannot start"));
  assert.match(fatal ?? "", /TopologyError/);
  assert.ok(fatal?.includes(queue));
});

async function startShop(t: TestContext, rabbitmq: RabbitmqForTest, databaseUrl: string) {
  const exchange = rabbitmq.name("bookshop");
  const ports = {
    user: await freePort(),
    book: await freePort(),
    order: await freePort(),
    secondOrder: await freePort(),
  };
  const common = {
    DATABASE_URL: databaseUrl,
    RABBITMQ_URL: rabbitmq.url,
    RABBITMQ_EXCHANGE: exchange,
    USER_SERVICE_ADDRESS: `127.0.0.1:${ports.user}`,
    BOOK_SERVICE_ADDRESS: `127.0.0.1:${ports.book}`,
    ORDER_SERVICE_ADDRESS: `127.0.0.1:${ports.order}`,
  };
  const queues = {
    user: rabbitmq.name("user", ...BESIDES),
    book: rabbitmq.name("book", ...BESIDES),
    order: rabbitmq.name("order", ...BESIDES),
  };
  const start = (name: keyof typeof queues, port: number, env: Record<string, string> = {}) =>
    startService(name, { ...common, RABBITMQ_QUEUE: queues[name], SERVER_PORT: String(port), ...env });
  // A watch that looks by itself looks in vain: only what it is told is in time.
  const patient = { CONFIG_FILE: await patientConfig(t) };
  const [user, order, secondOrder, firstBook] = await Promise.all([
    start("user", ports.user),
    start("order", ports.order, patient),
    start("order", ports.secondOrder, patient),
    start("book", ports.book),
  ]);
  let book = firstBook;
  const services = () => [user, order, secondOrder, book];
  await Promise.all(services().map(ready));
  return {
    exchange,
    user,
    order,
    secondOrder,
    get book() {
      return book;
    },
    async killBookService() {
      await book.end("SIGKILL");
      book = await start("book", ports.book);
      await ready(book);
    },
    stop: () => Promise.all(services().map((service) => service.end())),
  };
}

/** order-service's own, but for how often it looks. */
async function patientConfig(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "meridian-saga-"));
  t.after(() => rm(folder, { recursive: true }));
  const yaml = await readFile(join(repository, "services/order/config.yaml"), "utf8");
  assert.match(yaml, /^watch_interval: 5s$/m);
  const file = join(folder, "config.yaml");
  await writeFile(file, yaml.replace(/^watch_interval: 5s$/m, "watch_interval: 1h"));
  return file;
}

function logged({ stdout }: ServiceProcess, fields: Readonly<Record<string, unknown>>): boolean {
  return stdout.some((line) => {
    const logged = JSON.parse(line) as Record<string, unknown>;
    return Object.entries(fields).every(([name, value]) => logged[name] === value);
  });
}

/** As the original design's user-service publishes. */
async function publishHello(url: string, exchange: string, name: string): Promise<void> {
  const message = { type: "hello", name, message: `Hello ${name}!` };
  const body = Buffer.from(JSON.stringify(message));
  await withBroker(url, async (connection) => {
    const publisher = connection.createPublisher({ confirm: true });
    await publisher.send({ exchange, routingKey: "user.hello", contentType: "application/json" }, body);
    await publisher.close();
  });
}

async function withBroker(url: string, work: (connection: Connection) => Promise<unknown>): Promise<void> {
  const connection = new Connection(url);
  try {
    await within(work(connection), "RabbitMQ", 10_000);
    await within(connection.close(), "RabbitMQ to close a connection", 10_000);
  } finally {
    connection.unsafeDestroy();
  }
}
