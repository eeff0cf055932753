import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { usesBroker } from "#shared/event-bus";
import { loadUserConfig } from "./config.ts";

/** The blocks of the design that Meridian started from, as they stand there. */
const ORIGINAL = `
# configs/user-service.yaml
server:
  name: user-service
  host: 0.0.0.0
  port: 9001

log:
  level: debug

# 数据库配置...

# gRPC客户端配置（仅当需要调用其他服务时）
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
# configs/user-service.yaml
rabbitmq:
  enabled: true
  url: amqp://guest:guest@localhost:5672/
  exchange: demo_exchange
  exchange_type: topic
  queue: user_service_queue
  routing_key: user.#
  durable: true
  auto_delete: false
`;

test("config.yaml loads without any environment, and listens on this machine alone", () => {
  const { server, database, grpcClients, rabbitmq } = loadUserConfig({});
  assert.deepEqual([server.name, server.host, server.port], ["user-service", "127.0.0.1", 9001]);
  assert.equal(database.url, "pglite:.data/user");
  assert.deepEqual(
    grpcClients.services.map(({ name }) => name),
    ["book-service"],
  );
  const { queue, routingKey } = rabbitmq;
  assert.deepEqual([usesBroker(rabbitmq), queue, routingKey], [false, "user_service_queue", "user.#"]);
});

test("the environment moves what differs between deployments", () => {
  const { server, log, database, grpcClients, rabbitmq } = loadUserConfig({
    SERVER_HOST: "0.0.0.0",
    SERVER_PORT: "80",
    DRAIN_DELAY: "3s",
    LOG_LEVEL: "warn",
    DATABASE_URL: "postgres://db/meridian",
    BOOK_SERVICE_ADDRESS: "book:9002",
    RABBITMQ_URL: "amqp://mq:5672",
    RABBITMQ_EXCHANGE: "shop",
    RABBITMQ_QUEUE: "users",
  });
  assert.deepEqual([server.host, server.port, server.drainDelayMs, log.level], ["0.0.0.0", 80, 3_000, "warn"]);
  assert.equal(database.url, "postgres://db/meridian");
  assert.match(grpcClients.services[0]?.address.text ?? "", /book:9002/);
  const { url, exchange, queue } = rabbitmq;
  assert.deepEqual([usesBroker(rabbitmq), url, exchange, queue], [true, "amqp://mq:5672", "shop", "users"]);
});

test("the original design's YAML loads as it stands", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "user-config-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "user-service.yaml");
  await writeFile(file, ORIGINAL);

  const { server, log, grpcClients, rabbitmq } = loadUserConfig({ CONFIG_FILE: file });
  assert.deepEqual([server.name, server.host, server.port, log.level], ["user-service", "0.0.0.0", 9001, "debug"]);
  const [book, order] = grpcClients.services;
  assert.deepEqual(
    [book?.name, book?.timeoutMs, order?.name, order?.timeoutMs],
    ["book-service", 5_000, "order-service", 5_000],
  );
  const { max, timeoutMs, backoffMs } = book?.retry ?? {};
  assert.deepEqual({ max, timeoutMs, backoffMs }, { max: 3, timeoutMs: 10_000, backoffMs: 100 });
  const original = {
    enabled: true,
    url: "amqp://guest:guest@localhost:5672/",
    exchange: "demo_exchange",
    exchangeType: "topic",
    queue: "user_service_queue",
    routingKey: "user.#",
    durable: true,
    autoDelete: false,
  };
  assert.deepEqual({ ...rabbitmq, ...original }, rabbitmq);
  assert.equal(usesBroker(rabbitmq), true);
});
