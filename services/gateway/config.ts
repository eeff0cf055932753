import { fileURLToPath } from "node:url";
import { z } from "zod";
import { duration, loadConfig, section } from "#shared/config";
import { discoverySection } from "#shared/discovery";
import { logSection } from "#shared/logging";
import { adminSection, serverSection } from "#shared/server";
import { grpcClientsSection } from "#shared/transport-pool";

const headerNames = z.array(z.string().regex(/^[a-z0-9-]+$/, "expected a header's name in lower case"));

const headersSection = section({
  /** Handed on from the caller to services, besides deadline, trace and request id, which always are. */
  request: headerNames.default(["authorization", "accept-language"]),
  /** Handed back from services to the caller, and of an error's metadata. Trailers and details always are. */
  response: headerNames.default([]),
});

function isOrigin(text: string): boolean {
  return text === "*" || (/^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text);
}

const corsSection = section({
  /** Pages that may call, such as `https://shop.example`; `*` for any. */
  origins: z
    .array(z.string().refine(isOrigin, 'expected "*" or an origin as browsers send it: "https://shop.example"'))
    .default([]),
  /** How long a browser may remember a preflight's answer. */
  max_age: duration("2h"),
});

export const gatewayConfigSection = section({
  server: serverSection,
  admin: adminSection.prefault({ port: 0 }),
  log: logSection,
  grpc_clients: grpcClientsSection,
  discovery: discoverySection,
  headers: headersSection.prefault({}),
  cors: corsSection.prefault({}),
});

export type GatewayConfig = z.output<typeof gatewayConfigSection>;

/** @throws ConfigError with every fault of the file */
export function loadGatewayConfig(env: Readonly<Record<string, string | undefined>>): GatewayConfig {
  return loadConfig({
    file: fileURLToPath(new URL("config.yaml", import.meta.url)),
    schema: gatewayConfigSection,
    env,
  });
}
