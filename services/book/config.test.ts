import assert from "node:assert/strict";
import { test } from "node:test";
import { usesBroker } from "#shared/event-bus";
import { loadBookConfig } from "./config.ts";

test("config.yaml loads without any environment, and listens on this machine alone", () => {
  const { server, database, grpcClients, rabbitmq } = loadBookConfig({});
  assert.deepEqual([server.name, server.host, server.port], ["book-service", "127.0.0.1", 9002]);
  assert.equal(database.url, "pglite:.data/book");
  assert.deepEqual(
    grpcClients.services.map(({ name }) => name),
    ["order-service"],
  );
  const { queue, routingKey } = rabbitmq;
  assert.deepEqual([usesBroker(rabbitmq), queue, routingKey], [false, "book_service_queue", "order.placed"]);
});

test("the environment moves what differs between deployments", () => {
  const { server, log, database, grpcClients, rabbitmq } = loadBookConfig({
    SERVER_HOST: "0.0.0.0",
    SERVER_PORT: "80",
    DRAIN_DELAY: "3s",
    LOG_LEVEL: "warn",
    DATABASE_URL: "postgres://db/meridian",
    RABBITMQ_URL: "amqp://mq:5672",
    RABBITMQ_EXCHANGE: "shop",
    RABBITMQ_QUEUE: "ours",
    ORDER_SERVICE_ADDRESS: "order:9003",
  });
  assert.deepEqual([server.host, server.port, server.drainDelayMs, log.level], ["0.0.0.0", 80, 3_000, "warn"]);
  assert.equal(database.url, "postgres://db/meridian");
  assert.match(grpcClients.services[0]?.address.text ?? "", /order:9003/);
  const { url, exchange, queue } = rabbitmq;
  assert.deepEqual([usesBroker(rabbitmq), url, exchange, queue], [true, "amqp://mq:5672", "shop", "ours"]);
});
