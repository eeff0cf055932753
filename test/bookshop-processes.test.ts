// As in production: each service a process, on PostgreSQL, configured by its environment.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { OrderStatus } from "#gen/order/v1/order_pb.ts";
import { postgresForTest, until, within } from "#shared/testing";
import { clientsAt } from "./support/clients.ts";
import { freePort } from "./support/free-port.ts";
import { killPrograms, ready, runProgram, type ServiceProcess, startService } from "./support/service-process.ts";

const names = ["user", "book", "order", "gateway"] as const;
const configured = ["USER_SERVICE_ADDRESS", "BOOK_SERVICE_ADDRESS", "ORDER_SERVICE_ADDRESS"] as const;

after(killPrograms);

test("four processes on PostgreSQL sell a book, end with 0 on SIGTERM, and know it after a restart", async (t) => {
  const databaseUrl = await postgresForTest(t);
  if (databaseUrl === undefined) return;
  const bookshop = await bookshopOn(databaseUrl);

  let shop = await bookshop.start();
  let { users, books, orders } = clientsAt(shop.gateway.url);
  const { user } = await users.createUser({ username: "Ada", email: "ada@example.com", requestId: randomUUID() });
  const newBook = { title: "House", author: "Tracy Kidder", priceCents: 1_399n, stock: 4, requestId: randomUUID() };
  const { book } = await books.createBook(newBook);
  await books.createBook({ ...newBook, title: "Among Schoolchildren", requestId: randomUUID() });
  const purchase = { requestId: randomUUID(), userId: user!.id, items: [{ bookId: book!.id, quantity: 2 }] };
  // A peer that was not up when order-service started is tried again after a second.
  await until("order-service to reach its peers", () =>
    orders.createOrder(purchase).then(
      () => true,
      () => false,
    ),
  );
  const { order } = await orders.createOrder(purchase);
  assert.equal(order?.status, OrderStatus.PENDING);
  assert.equal(order.totalCents, 2_798n);
  let greetings = 0n;
  const greeting = async () => {
    greetings++;
    return (await users.sayHello({ name: user!.id })).message;
  };
  await until("a personal greeting", async () => (await greeting()).includes("Among Schoolchildren"));
  const known = async () => (await users.getUser({ id: user!.id })).user!;
  await until("the greetings to be counted", async () => (await known()).greetings === greetings);
  assert.deepEqual(await bookshop.stop(shop), [0, 0, 0, 0]);

  shop = await bookshop.start();
  ({ users, books, orders } = clientsAt(shop.gateway.url));
  assert.deepEqual(await known(), { ...user, greetings });
  // Without a broker that it shares with order-service, book-service has not heard of the order.
  assert.deepEqual((await orders.getOrder({ id: order.id })).order, order);
  assert.equal((await books.listBooks({})).books.length, 2);
  assert.deepEqual(await bookshop.stop(shop), [0, 0, 0, 0]);
});

test("two replicas that start at once on an empty database both come up, and share it", async (t) => {
  const databaseUrl = await postgresForTest(t);
  if (databaseUrl === undefined) return;
  const env = { SERVER_PORT: "0", DATABASE_URL: databaseUrl };
  const replicas = await Promise.all([startService("user", env), startService("user", env)]);
  await Promise.all(replicas.map(ready));
  const [first, second] = replicas.map(({ url }) => clientsAt(url));
  const { user } = await first!.users.createUser({ username: "Ada", email: "ada@example.com" });
  assert.deepEqual((await second!.users.getUser({ id: user!.id })).user, user);
  assert.deepEqual(await Promise.all(replicas.map((replica) => replica.end())), [0, 0]);
});

test("SIGINT and SIGTERM end a service with 0 also while its database is away", async () => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const env = { SERVER_PORT: "0", DATABASE_URL: `postgres://127.0.0.1:${await freePort()}/none` };
    const service = await startService("book", env);
    assert.equal((await fetch(`${service.url}/readyz`)).status, 503);
    assert.equal(await service.end(signal), 0);
  }
});

test("a service whose broker is away starts and is not ready, and ends with 0 on SIGTERM", async () => {
  const broker = `127.0.0.1:${await freePort()}`;
  const env = { SERVER_PORT: "0", DATABASE_URL: "pglite:memory", RABBITMQ_URL: `amqp://${broker}` };
  const service = await startService("user", env);
  await clientsAt(service.url).users.sayHello({ name: "Ada" });
  assert.equal((await fetch(`${service.url}/readyz`)).status, 503);
  assert.equal(await service.end(), 0);
});

test("a bad configuration ends each service with 78, and every fault is on stderr by its path", async (t) => {
  const file = await configFile(t, "server: { port: many, prot: 1 }\nlog: { level: loud }\ngrpc_client: {}\n");
  await Promise.all(
    names.map(async (name) => {
      const program = runProgram(`services/${name}/main.ts`, { env: { CONFIG_FILE: file } });
      assert.equal(await within(program.exit, "its end", 120_000), 78, name);
      for (const path of ["server.name", "server.port", "server.prot", "log.level", "grpc_client"]) {
        assert.ok(program.stderr().includes(path), `${name}: no ${path} in ${program.stderr()}`);
      }
      assert.deepEqual(program.stdout, []);
    }),
  );
});

test("a port that is taken ends a service with 1", async () => {
  const first = await startService("gateway", { SERVER_PORT: "0" });
  const second = runProgram("services/gateway/main.ts", { env: { SERVER_PORT: new URL(first.url).port } });
  assert.equal(await within(second.exit, "its end", 120_000), 1);
  assert.equal(await first.end(), 0);
});

type Shop = Record<(typeof names)[number], ServiceProcess>;

async function bookshopOn(databaseUrl: string) {
  const ports = new Map<string, string>();
  for (const name of names) ports.set(name, String(await freePort()));
  const addresses = Object.fromEntries(
    configured.map((key) => [key, `127.0.0.1:${ports.get(key.split("_", 1)[0]!.toLowerCase())}`]),
  );
  return {
    async start(): Promise<Shop> {
      const entries = names.map(async (name) => {
        const env = { ...addresses, SERVER_PORT: ports.get(name)!, DATABASE_URL: databaseUrl };
        const service = await startService(name, env);
        await ready(service);
        return [name, service] as const;
      });
      const shop = Object.fromEntries(await Promise.all(entries)) as Shop;
      const { users, orders, books } = clientsAt(shop.gateway.url);
      // The gateway too may have been up before the others.
      const calls = [() => users.listUsers({}), () => books.listBooks({}), () => orders.listOrders({})];
      for (const call of calls) {
        await until("the gateway to reach a service", () =>
          call().then(
            () => true,
            () => false,
          ),
        );
      }
      return shop;
    },
    stop: (shop: Shop) => Promise.all(names.toReversed().map((name) => shop[name].end())),
  };
}

async function configFile(t: TestContext, yaml: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "meridian-config-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "config.yaml");
  await writeFile(file, yaml);
  return file;
}
