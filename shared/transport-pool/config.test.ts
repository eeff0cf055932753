import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { ConfigError, loadConfig, section } from "#shared/config";
import { createTransportPool, grpcClientsSection } from "./index.ts";
import { recordingLogger } from "./test-support.ts";

async function load(t: TestContext, yaml: string) {
  const folder = await mkdtemp(join(tmpdir(), "transport-pool-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "config.yaml");
  writeFileSync(file, yaml);
  return loadConfig({ file, schema: section({ grpc_clients: grpcClientsSection }), env: {} }).grpcClients;
}

async function faults(t: TestContext, yaml: string): Promise<string[]> {
  const error = await load(t, yaml).catch((error: unknown) => error);
  assert.ok(error instanceof ConfigError, String(error));
  return error.faults.map(({ path, message }) => `${path}: ${message}`);
}

test("the original design's grpc_clients loads as it is", async (t) => {
  const config = await load(
    t,
    `
grpc_clients:
  services:
    - name: book-service
      address: localhost:9002
      timeout: 5s
      retry:
        max: 3
        timeout: 10s
        backoff: 100ms
    - name: order-service
      address: localhost:9003
      timeout: 5s
`,
  );
  const [book, order] = config.services;
  assert.deepEqual([book?.name, book?.address.text, book?.timeoutMs], ["book-service", "localhost:9002", 5_000]);
  const { max, timeoutMs, backoffMs } = book?.retry ?? {};
  assert.deepEqual({ max, timeoutMs, backoffMs }, { max: 3, timeoutMs: 10_000, backoffMs: 100 });
  assert.deepEqual([order?.name, order?.address.text, order?.retry], ["order-service", "localhost:9003", undefined]);
});

test("without grpc_clients, or without services, there are none", async (t) => {
  assert.deepEqual((await load(t, "{}")).services, []);
  assert.deepEqual((await load(t, "grpc_clients: {}")).services, []);
});

test("every fault is told with its path", async (t) => {
  const found = await faults(
    t,
    `
grpc_clients:
  services:
    - name: book-service
      address: localhost
      timeout: 5
      retry: { max: -1, timeout: 0s, backoff: 1ms }
    - name: order-service
      address: localhost:9003
      protocol: rest
      timout: 5s
    - name: ""
      address: 9003
`,
  );
  const paths = found.map((fault) => fault.replace(/: .*/s, ""));
  assert.deepEqual(paths.sort(), [
    "grpc_clients.services[0].address",
    "grpc_clients.services[0].retry.max",
    "grpc_clients.services[0].retry.timeout",
    "grpc_clients.services[0].timeout",
    "grpc_clients.services[1].protocol",
    "grpc_clients.services[1].timout",
    "grpc_clients.services[2].address",
    "grpc_clients.services[2].name",
  ]);
});

test("what cannot go together is refused, with the path of every fault in one error", async (t) => {
  const found = await faults(
    t,
    `
grpc_clients:
  services:
    - name: book-service
      address: zk:///book-service
      retry: { max: 3, timeout: 10s, backoff: 100ms }
      hedge: { delay: 50ms, max: 1 }
    - name: book-service
      address: ["localhost:9002", "localhost:0"]
      http: "1.1"
      retry: { max: 0, timeout: 10s, backoff: 100ms, codes: [] }
      keepalive: { time: 1s }
      balancer: { policy: consistent_hash }
      methods:
        book.v1.BookService/GetBook: { retry: { max: 0, timeout: 1s, backoff: 10ms } }
        /book.v1.BookService/GetBook: { timeout: 1s }
        GetBook: { timeout: 1s }
        book.v1.BookService/ListBooks:
          retry: { max: 2 }
          hedge: { max: 2 }
    - name: order-service
      address: localhost:9003
      retry: { max_attempts: 0 }
      tls: { cert_file: package.json }
`,
  );
  const paths = found.map((fault) => fault.replace(/: .*/s, ""));
  const service = (index: number, path: string) => `grpc_clients.services[${index}].${path}`;
  assert.deepEqual(paths.sort(), [
    service(0, "address"),
    service(0, "hedge"),
    service(1, "address[1]"),
    service(1, "balancer.hash_header"),
    service(1, "http"),
    service(1, "keepalive.time"),
    service(1, "methods.GetBook"),
    service(1, 'methods["/book.v1.BookService/GetBook"]'),
    service(1, 'methods["book.v1.BookService/GetBook"].retry.max'),
    service(1, 'methods["book.v1.BookService/ListBooks"].hedge'),
    service(1, "name"),
    service(1, "retry.codes"),
    service(1, "retry.max"),
    service(2, "retry.max"),
    service(2, "retry.max_attempts"),
    service(2, "tls.key_file"),
  ]);
});

test("a policy for a method that does not exist, or must not have it, stops the start", () => {
  const poolWith = (methods: object) => {
    const config = grpcClientsSection.parse({
      services: [{ name: "book-service", address: "localhost:9002", methods }],
    });
    return createTransportPool(config, { logger: recordingLogger().logger, caller: "user-service" });
  };
  for (const [methods, fault] of [
    [{ "book.v1.BookService/GetBooks": { timeout: "1s" } }, /GetBooks.*no such method.*ListBooks/],
    [{ "book.v1.BookService/CreateBook": { hedge: { max: 1 } } }, /CreateBook.*NO_SIDE_EFFECTS/],
  ] as const) {
    assert.throws(() => poolWith(methods).client("book-service", BookService), fault);
  }
});

test("all that is wrong with the methods of a service is one error", () => {
  const methods = {
    "book.v1.BookService/GetBooks": { timeout: "1s" },
    "book.v1.BookService/CreateBook": { hedge: { max: 1 } },
  };
  const config = grpcClientsSection.parse({ services: [{ name: "book-service", address: "localhost:9002", methods }] });
  const pool = createTransportPool(config, { logger: recordingLogger().logger, caller: "user-service" });
  assert.throws(
    () => pool.client("book-service", BookService),
    (error) =>
      error instanceof ConfigError &&
      error.faults.map(({ path }) => path).join(" and ") ===
        'book-service.methods["book.v1.BookService/GetBooks"] and book-service.methods["book.v1.BookService/CreateBook"].hedge',
  );
});

test("two services of one name are refused", async (t) => {
  const found = await faults(
    t,
    `
grpc_clients:
  services:
    - { name: book-service, address: "localhost:9002" }
    - { name: order-service, address: "localhost:9003" }
    - { name: book-service, address: "localhost:9004" }
`,
  );
  assert.equal(found.length, 1);
  assert.match(found[0] ?? "", /^grpc_clients\.services\[2\]\.name: .*book-service/);
});

for (const [given, taken] of [
  ["localhost:9002", "localhost:9002"],
  ["http://localhost:9002", "localhost:9002"],
  ["http://book_service.shop.svc:80/", "book_service.shop.svc:80"],
  ["10.0.0.7:9002", "10.0.0.7:9002"],
  ["[::1]:9002", "[::1]:9002"],
  ["http://[2001:db8::1]:9002", "[2001:db8::1]:9002"],
] as const) {
  test(`the address ${given} is taken`, () => {
    const config = grpcClientsSection.parse({ services: [{ name: "book-service", address: given }] });
    const { address } = config.services[0]!;
    assert.deepEqual(address.scheme === "static" ? address.addresses : address, [taken]);
    createTransportPool(config, { logger: recordingLogger().logger, caller: "user-service" });
  });
}

for (const address of [
  "",
  "localhost",
  ":9002",
  "localhost:0",
  "localhost:65536",
  "localhost:http",
  "::1:9002",
  "[::1]",
  "[::zz]:9002",
  "999.0.0.1:9002",
  "dns:///localhost",
  "zk:///book-service",
  "http://localhost:9002/books",
  "http://ada:secret@localhost:9002",
  "local host:9002",
]) {
  test(`the address ${JSON.stringify(address)} is refused`, () => {
    const result = grpcClientsSection.safeParse({ services: [{ name: "book-service", address }] });
    assert.deepEqual(result.error?.issues[0]?.path, ["services", 0, "address"]);
  });
}

test("a name that is not configured is an error at once that lists those that are", () => {
  const config = grpcClientsSection.parse({
    services: [
      { name: "book-service", address: "localhost:9002" },
      { name: "order-service", address: "localhost:9003" },
    ],
  });
  const pool = createTransportPool(config, { logger: recordingLogger().logger, caller: "user-service" });
  assert.equal(pool.has("book-service"), true);
  assert.equal(pool.has("books"), false);
  for (const ask of [() => pool.client("books", BookService), () => pool.transport("books")]) {
    assert.throws(ask, /"books".*book-service, order-service/);
  }
});
