import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { duration, loadConfig, section } from "#shared/config";
import { databaseSection } from "#shared/database";
import { discoverySection, registrationSection } from "#shared/discovery";
import { rabbitmqSection } from "#shared/event-bus";
import { logSection } from "#shared/logging";
import { adminSection, serverSection } from "#shared/server";
import { grpcClientsSection } from "#shared/transport-pool";

export const orderConfigSection = section({
  server: serverSection,
  admin: adminSection.prefault({ port: 0 }),
  log: logSection,
  database: databaseSection.prefault({ url: "pglite:.data/order" }),
  /** `user-service` and `book-service`, both needed. */
  grpc_clients: grpcClientsSection,
  discovery: discoverySection,
  /** Where the others find this instance, when they look it up. */
  registration: registrationSection.optional(),
  rabbitmq: rabbitmqSection.prefault({ enabled: false, exchange: "bookshop", queue: "order_service_queue" }),
  /**
   * How often a watched order is looked at besides, should word of its change be lost. Each look of each watch is a query
   * of one row and its items.
   */
  watch_interval: duration("5s", { min: "10ms" }),
  /** Time after which an order that is still PENDING is cancelled. It holds for orders that are placed from then on. */
  order_timeout: duration("15m", { min: "10ms", max: "168h" }),
});

export type OrderConfig = z.output<typeof orderConfigSection>;

/** @throws ConfigError with every fault of the file */
export function loadOrderConfig(env: Readonly<Record<string, string | undefined>>): OrderConfig {
  return loadConfig({ file: fileURLToPath(new URL("config.yaml", import.meta.url)), schema: orderConfigSection, env });
}
