import type { TestContext } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import {
  type Client,
  createClient,
  createRouterTransport,
  type Interceptor,
  type StreamResponse,
} from "@connectrpc/connect";
import { type DomainError, fromConnectError, toConnectError } from "#shared/errors";
import { createReadiness } from "#shared/lifecycle";
import { createLogger } from "#shared/logging";
import { createServer, type Routes, serverSection } from "#shared/server";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { closeAfter } from "./close-after.ts";

export const silent = createLogger({ name: "test", config: { level: "silent", format: "json" } });

/** Shutdown signal of a server that does not shut down. */
const running = new AbortController().signal;

/** Creates a client of the routes without a network. Errors are mapped as by the server. */
export function clientOf<Service extends DescService>(service: Service, routes: Routes): Client<Service> {
  return createClient(
    service,
    createRouterTransport((router) => routes(router, running), { router: { interceptors: [mapErrors] } }),
  );
}

const mapErrors: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    return response.stream ? ({ ...response, message: mapped(response.message) } as StreamResponse) : response;
  } catch (error) {
    throw toConnectError(error, "test");
  }
};

async function* mapped<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* items;
  } catch (error) {
    throw toConnectError(error, "test");
  }
}

/** Creates a gRPC client of a running server. */
export function clientAt<Service extends DescService>(t: TestContext, url: string, service: Service): Client<Service> {
  const config = grpcClientsSection.parse({ services: [{ name: "it", address: url }] });
  const pool = createTransportPool(config, { logger: silent, caller: "test", closeTimeoutMs: 0 });
  closeAfter(t, () => pool.close());
  return pool.client("it", service);
}

/** Starts a server that runs until the test ends or `stop` is called. */
export async function startPeer(t: TestContext, routes: Routes): Promise<{ url: string; stop(): Promise<void> }> {
  const config = serverSection.parse({ name: "peer", host: "127.0.0.1", port: 0 });
  const server = createServer({ config, logger: silent, readiness: createReadiness(), routes });
  await server.start();
  const stop = () => server.stop(AbortSignal.abort());
  closeAfter(t, stop);
  return { url: server.url, stop };
}

/** Returns the URL of a port on which no server listens. */
export async function deadUrl(t: TestContext): Promise<string> {
  const { url, stop } = await startPeer(t, () => {});
  await stop();
  return url;
}

/** Handler that never responds. */
export const never = (): Promise<never> => new Promise(() => {});

/** A deadline that the server alone keeps: on a busy machine the client's timer could beat an answer in time. */
export const serverDeadline = (ms: number) => ({ timeoutMs: 0, headers: { "grpc-timeout": `${ms}m` } });

/** How a call was refused. */
export async function refusalOf(
  call: Promise<unknown>,
): Promise<Pick<DomainError, "code" | "reason" | "metadata"> & { fields: string[] }> {
  const answer = await call.then(
    () => "an answer",
    (error: unknown) => fromConnectError(error) ?? error,
  );
  if (!(answer instanceof Error && "reason" in answer)) throw new Error("not refused with a reason", { cause: answer });
  const { code, reason, metadata, fields } = answer as DomainError;
  return { code, reason, metadata, fields: fields.map(({ field }) => field) };
}
