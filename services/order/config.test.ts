import assert from "node:assert/strict";
import { test } from "node:test";
import { usesBroker } from "#shared/event-bus";
import { loadOrderConfig } from "./config.ts";

test("config.yaml loads without any environment, and listens on this machine alone", () => {
  const { server, database, grpcClients, watchIntervalMs, orderTimeoutMs, rabbitmq } = loadOrderConfig({});
  assert.deepEqual([server.name, server.host, server.port], ["order-service", "127.0.0.1", 9003]);
  assert.equal(database.url, "pglite:.data/order");
  assert.deepEqual([watchIntervalMs, orderTimeoutMs], [5_000, 15 * 60_000]);
  assert.deepEqual(
    grpcClients.services.map(({ name }) => name),
    ["user-service", "book-service"],
  );
  const { queue, routingKey } = rabbitmq;
  assert.deepEqual([usesBroker(rabbitmq), queue, routingKey], [false, "order_service_queue", "book.stock.*"]);
});

test("the environment moves what differs between deployments", () => {
  const { server, log, database, grpcClients, rabbitmq } = loadOrderConfig({
    SERVER_HOST: "0.0.0.0",
    SERVER_PORT: "80",
    DRAIN_DELAY: "3s",
    LOG_LEVEL: "warn",
    DATABASE_URL: "postgres://db/meridian",
    RABBITMQ_URL: "amqp://mq:5672",
    RABBITMQ_EXCHANGE: "shop",
    RABBITMQ_QUEUE: "ours",
    USER_SERVICE_ADDRESS: "user:9001",
    BOOK_SERVICE_ADDRESS: "book:9002",
  });
  assert.deepEqual([server.host, server.port, server.drainDelayMs, log.level], ["0.0.0.0", 80, 3_000, "warn"]);
  assert.equal(database.url, "postgres://db/meridian");
  assert.match(grpcClients.services[0]?.address.text ?? "", /user:9001/);
  assert.match(grpcClients.services[1]?.address.text ?? "", /book:9002/);
  const { url, exchange, queue } = rabbitmq;
  assert.deepEqual([usesBroker(rabbitmq), url, exchange, queue], [true, "amqp://mq:5672", "shop", "ours"]);
});
