/**
 * The server under test: reads what the runner asks for from stdin, starts, and writes its address to stdout.
 *
 *   --fallback   `fast_path: false`: Connect's own handlers serve every call
 */
import { parseArgs } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { createReadiness } from "#shared/lifecycle";
import { createServer, serverSection } from "#shared/server";
import { readMessage, withLength } from "./framing.ts";
import { PemFiles } from "./pem-files.ts";
import {
  ConformanceService,
  type ServerCompatRequest,
  ServerCompatRequestSchema,
  ServerCompatResponseSchema,
} from "./protos.ts";
import { registry } from "./registry.ts";
import { createService, type TimeoutOf } from "./service.ts";
import { createStderrLogger } from "./stderr-logger.ts";

const NAME = "conformance-server";
const HOST = "127.0.0.1";
/** The longest that there is: `server.max_timeout` cannot be switched off, and calls without a timeout get it. */
const MAX_TIMEOUT = "596h";
/** Timeouts of the suite are shorter, so a longer one comes from MAX_TIMEOUT. */
const LONGEST_TIMEOUT_MS = 3_600_000;

const { values: flags } = parseArgs({ options: { fallback: { type: "boolean", default: false } } });
const files = new PemFiles();
process.once("exit", () => files.remove());
const request = fromBinary(ServerCompatRequestSchema, await readMessage(process.stdin));
const server = createServer({
  config: serverSection.parse(configFor(request)),
  logger: createStderrLogger(NAME),
  readiness: createReadiness(),
  // For google.protobuf.Any in JSON.
  jsonOptions: { registry },
  routes,
  validate: false,
});
await server.start();

// The runner leaves the server behind when it is killed.
const runnerPid = process.ppid;
setInterval(() => process.ppid === runnerPid || process.exit(1), 1_000).unref();

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => void server.stop(AbortSignal.timeout(500)).finally(() => process.exit(0)));
}

const response = create(ServerCompatResponseSchema, {
  host: HOST,
  port: Number(new URL(server.url).port),
  pemCert: request.serverCreds?.cert ?? new Uint8Array(),
});
process.stdout.write(withLength(toBinary(ServerCompatResponseSchema, response)));

function routes(router: ConnectRouter): void {
  router.service(ConformanceService, createService(timeoutOf));
}

function configFor({ useTls, serverCreds, clientTlsCert, messageReceiveLimit }: ServerCompatRequest): object {
  if (useTls && serverCreds === undefined) throw new Error("the runner asks for TLS without a certificate");
  return {
    name: NAME,
    host: HOST,
    port: 0,
    max_timeout: MAX_TIMEOUT,
    shutdown_timeout: "1s",
    fast_path: !flags.fallback,
    compress_min_bytes: 0,
    ...(messageReceiveLimit === 0 ? {} : { read_max_bytes: messageReceiveLimit }),
    ...(serverCreds === undefined
      ? {}
      : {
          tls: {
            cert_file: files.write(serverCreds.cert),
            key_file: files.write(serverCreds.key),
            ...(clientTlsCert.length === 0 ? {} : { client_ca_file: files.write(clientTlsCert) }),
          },
        }),
  };
}

function timeoutOf(context: Parameters<TimeoutOf>[0]): number | undefined {
  const timeoutMs = context.timeoutMs();
  return timeoutMs === undefined || timeoutMs > LONGEST_TIMEOUT_MS ? undefined : timeoutMs;
}
