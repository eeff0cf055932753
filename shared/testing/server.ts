import type { TestContext } from "node:test";
import { createReadiness, type Readiness } from "#shared/lifecycle";
import { createServer, type Server, type ServerConfig, type ServerOptions, serverSection } from "#shared/server";
import { closeAfter } from "./close-after.ts";
import { EchoService } from "./echo-service.ts";
import { type RecordedLog, recordLog } from "./recorded-log.ts";

export interface TestServer extends Server {
  readonly port: number;
  readonly log: RecordedLog;
  readonly readiness: Readiness;
}

/** Keys as in YAML. */
export type ServerYaml = Readonly<Record<string, unknown>>;

export function serverConfig(yaml: ServerYaml = {}): ServerConfig {
  // Tests also run with FAST_PATH=false: a server must behave the same.
  const fast_path = process.env["FAST_PATH"] !== "false";
  const own = { name: "test-service", host: "127.0.0.1", port: 0, shutdown_timeout: "1s", fast_path };
  return serverSection.parse({ ...own, ...yaml });
}

export interface TestServerOptions extends Partial<Omit<ServerOptions, "config">> {
  readonly config?: ServerYaml;
}

/** Starts a server on a free port until the test ends. Default routes: an echo. */
export async function startServer(t: TestContext, options: TestServerOptions = {}): Promise<TestServer> {
  const { config, ...rest } = options;
  const log = recordLog();
  const readiness = createReadiness();
  const server = createServer({
    logger: log.logger,
    readiness,
    routes: (router) => router.service(EchoService, echo),
    ...rest,
    config: serverConfig(config),
  });
  closeAfter(t, () => server.stop(AbortSignal.abort()));
  await server.start();
  // Not spread: `url` is a getter.
  return Object.assign(Object.create(server) as Server, {
    port: Number(new URL(server.url).port),
    log,
    readiness: options.readiness ?? readiness,
  });
}

interface Text {
  readonly value: string;
}

/** Default implementation of EchoService. */
export const echo = {
  echo: ({ value }: Text) => ({ value }),
  read: ({ value }: Text) => ({ value }),
  async collect(requests: AsyncIterable<Text>) {
    let value = "";
    for await (const request of requests) value += request.value;
    return { value };
  },
  async *expand({ value }: Text) {
    for (const letter of value) yield { value: letter };
  },
  async *chat(requests: AsyncIterable<Text>) {
    for await (const { value } of requests) yield { value };
  },
};
