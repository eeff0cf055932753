// Prints what the Connect of this process does where versions differ, as JSON.

import { once } from "node:events";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { createClient, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { EchoService } from "#shared/testing";

/** How long something has time to happen before it counts as not happening. */
const WAIT_MS = 3_000;
const PATH = `/${EchoService.typeName}/Echo`;
/** A request that is refused before its body is read. */
const REFUSED = { "content-type": "application/x-unknown", "content-length": "10" };

/** What a reader that leaves the stream by `break` causes. */
async function leaveStream() {
  let isHandlerCancelled = false;
  let isInterceptorEnded = false;
  const watch: Interceptor = (next) => async (request) => {
    const response = await next(request);
    if (!response.stream) return response;
    const { message } = response;
    async function* messages() {
      try {
        yield* message;
      } finally {
        isInterceptorEnded = true;
      }
    }
    return { ...response, message: messages() };
  };
  const transport = createRouterTransport(
    ({ service }) => {
      service(EchoService, {
        async *expand(_request, { signal }) {
          signal.addEventListener("abort", () => {
            isHandlerCancelled = true;
          });
          while (!signal.aborted) yield { value: "" };
        },
      });
    },
    { transport: { interceptors: [watch] } },
  );
  for await (const _ of createClient(EchoService, transport).expand({})) break;
  await delay(WAIT_MS);
  return { isHandlerCancelled, isInterceptorEnded };
}

/** What the iterator of the request messages is told when its call is cancelled, before or after the call begins. */
async function cancelWith(reason: Error, isBefore: boolean): Promise<string[]> {
  const told: string[] = [];
  const requests: AsyncIterableIterator<{ value: string }> = {
    next: () => new Promise(() => {}),
    async return() {
      told.push("return");
      return { done: true, value: undefined };
    },
    async throw(error) {
      told.push(`throw ${error}`);
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => requests,
  };
  const transport = createRouterTransport(({ service }) => {
    service(EchoService, {
      async *chat() {
        yield { value: "" };
        await new Promise(() => {});
      },
    });
  });
  const cancel = new AbortController();
  if (isBefore) cancel.abort(reason);
  try {
    const client = createClient(EchoService, transport);
    for await (const _ of client.chat(requests, { signal: cancel.signal })) cancel.abort(reason);
  } catch {}
  await delay(0);
  return told;
}

/** Whether a refusal over HTTP/1.1 arrives while the request is still being sent. */
async function refuseHttp1(): Promise<{ respondsBeforeEnd: boolean; status: number | undefined }> {
  const server = http.createServer(connectNodeAdapter({ routes: ({ service }) => void service(EchoService, {}) }));
  const port = await listen(server);
  const request = http.request({ port, path: PATH, method: "POST", headers: REFUSED });
  request.on("error", () => {});
  const response = once(request, "response") as Promise<[http.IncomingMessage]>;
  request.write("1");
  const respondsBeforeEnd = (await Promise.race([response, delay(WAIT_MS)])) !== undefined;
  if (!respondsBeforeEnd) request.end("234567890");
  const [{ statusCode }] = await response;
  request.destroy();
  server.close();
  return { respondsBeforeEnd, status: statusCode };
}

async function listen(server: http.Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

const [reader, cancelledBefore, cancelledAfter, refusal] = await Promise.all([
  leaveStream(),
  cancelWith(new Error("no more"), true),
  cancelWith(new Error("no more"), false),
  refuseHttp1(),
]);
process.stdout.write(JSON.stringify({ reader, cancelledBefore, cancelledAfter, refusal }));
process.exit(0);
