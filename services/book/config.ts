import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { loadConfig, section } from "#shared/config";
import { databaseSection } from "#shared/database";
import { discoverySection, registrationSection } from "#shared/discovery";
import { rabbitmqSection } from "#shared/event-bus";
import { logSection } from "#shared/logging";
import { adminSection, serverSection } from "#shared/server";
import { grpcClientsSection } from "#shared/transport-pool";

export const bookConfigSection = section({
  server: serverSection,
  admin: adminSection.prefault({ port: 0 }),
  log: logSection,
  database: databaseSection.prefault({ url: "pglite:.data/book" }),
  /** `order-service`, for recommendations; without it they know nobody's orders. */
  grpc_clients: grpcClientsSection,
  discovery: discoverySection,
  /** Where the others find this instance, when they look it up. */
  registration: registrationSection.optional(),
  rabbitmq: rabbitmqSection.prefault({ enabled: false, exchange: "bookshop", queue: "book_service_queue" }),
});

export type BookConfig = z.output<typeof bookConfigSection>;

/** @throws ConfigError with every fault of the file */
export function loadBookConfig(env: Readonly<Record<string, string | undefined>>): BookConfig {
  return loadConfig({ file: fileURLToPath(new URL("config.yaml", import.meta.url)), schema: bookConfigSection, env });
}
