import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { loadConfig, section } from "#shared/config";
import { databaseSection } from "#shared/database";
import { discoverySection, registrationSection } from "#shared/discovery";
import { rabbitmqSection } from "#shared/event-bus";
import { logSection } from "#shared/logging";
import { adminSection, serverSection } from "#shared/server";
import { grpcClientsSection } from "#shared/transport-pool";

export const userConfigSection = section({
  server: serverSection,
  admin: adminSection.prefault({ port: 0 }),
  log: logSection,
  database: databaseSection.prefault({ url: "pglite:.data/user" }),
  /** `book-service`, for recommendations; without it greetings say that there is none. */
  grpc_clients: grpcClientsSection,
  discovery: discoverySection,
  /** Where the others find this instance, when they look it up. */
  registration: registrationSection.optional(),
  rabbitmq: rabbitmqSection.prefault({ enabled: false, exchange: "bookshop", queue: "user_service_queue" }),
});

export type UserConfig = z.output<typeof userConfigSection>;

/** @throws ConfigError with every fault of the file */
export function loadUserConfig(env: Readonly<Record<string, string | undefined>>): UserConfig {
  return loadConfig({ file: fileURLToPath(new URL("config.yaml", import.meta.url)), schema: userConfigSection, env });
}
