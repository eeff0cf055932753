import type { TestContext } from "node:test";
import { type MessageShape, toJson } from "@bufbuild/protobuf";
import { ConnectError, createContextValues, type Interceptor, type Transport } from "@connectrpc/connect";
import { OrderService, WatchOrderResponseSchema } from "#gen/order/v1/order_pb.ts";
import type { Endpoint } from "../balancing/endpoint.ts";
import type { SendTo } from "../interceptors/attempt.ts";
import { createTransport } from "../protocols/transport.ts";
import { until, within } from "../test-support.ts";
import { configOf, connectTo } from "../unary-differential/compare.ts";
import { type ScriptedServer, type Step, startScriptedServer } from "../unary-differential/scripted-server.ts";

/** All that a caller can see of an answer. */
export interface Outcome {
  readonly header?: readonly (readonly [string, string])[] | undefined;
  readonly messages: readonly unknown[];
  readonly trailer?: readonly (readonly [string, string])[];
  readonly code?: number;
  readonly error?: string;
  readonly metadata?: readonly (readonly [string, string])[];
  readonly details?: unknown;
  readonly isWireError?: boolean;
  /** What the next ask after the end comes to. */
  readonly after?: unknown;
  /** Of the request's signal, in the end. */
  readonly isAborted?: boolean;
  /** What the source of the request's messages was told; stock Connect says some of it twice. */
  readonly told: ReadonlySet<string>;
}

export interface CallOptions {
  readonly answerAt?: "headers" | "end";
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** What to do when so many messages have come. */
  readonly afterMessages?: { readonly count: number; readonly act: () => void };
  /** What to do when the script has been played for so long. */
  readonly afterMs?: { readonly ms: number; readonly act: () => void };
  /** Ids of the orders that the request asks for. */
  readonly ids?: readonly string[];
}

/** The same call on the fallback, which is Connect's own transport, and on the fast path. */
export interface Pair {
  readonly server: ScriptedServer;
  stock(script: readonly Step[], makeOptions?: () => CallOptions): Promise<Outcome>;
  own(script: readonly Step[], makeOptions?: () => CallOptions): Promise<Outcome>;
}

export async function startPair(t: TestContext): Promise<Pair> {
  const server = await startScriptedServer(t);
  const origin = `http://${server.address}`;
  const seen: { signal: AbortSignal | undefined } = { signal: undefined };
  let endpoint: Endpoint | undefined;

  const watch: Interceptor = (next) => (req) => {
    seen.signal = req.signal;
    return next(req);
  };
  const attempt = (send: SendTo) => (req: Parameters<ReturnType<Interceptor>>[0]) => send(endpoint as Endpoint, req);
  const transportOf = (fastPath: boolean) =>
    createTransport({
      config: configOf({ protocol: "grpc", http: "2", fastPath }),
      origin,
      interceptors: [watch],
      attempt,
      jsonOptions: undefined,
    });
  const stock = transportOf(false);
  const own = transportOf(true);

  async function outcomeOf(
    stream: Transport["stream"],
    script: readonly Step[],
    { answerAt = "end", timeoutMs = 10_000, signal, afterMs, afterMessages, ids = ["o-1"] }: CallOptions,
  ): Promise<Outcome> {
    endpoint = connectTo(server);
    const { subchannel } = endpoint;
    await until(() => subchannel.state() === "ready");
    server.script = script;
    server.answerAt = answerAt;
    const timer = afterMs === undefined ? undefined : setTimeout(afterMs.act, afterMs.ms);
    const told = new Set<string>();
    const messages: unknown[] = [];
    const seenSoFar: { header?: Outcome["header"]; trailer?: Headers } = {};
    const { watchOrder } = OrderService.method;
    try {
      const call = stream(watchOrder, signal, timeoutMs, undefined, source(ids, told), createContextValues());
      const { message, header, trailer } = await within(8_000, call);
      seenSoFar.header = [...header];
      seenSoFar.trailer = trailer;
      const iterator = message[Symbol.asyncIterator]();
      for (;;) {
        const result = await within(8_000, iterator.next());
        if (result.done === true) break;
        messages.push(toJson(WatchOrderResponseSchema, result.value as MessageShape<typeof WatchOrderResponseSchema>));
        if (messages.length === afterMessages?.count) afterMessages.act();
      }
      const after = await within(8_000, iterator.next());
      return { header: [...header], messages, trailer: [...trailer], after, isAborted: isAborted(), told };
    } catch (reason) {
      const isConnectError = reason instanceof ConnectError;
      const error = ConnectError.from(reason);
      return {
        ...seenSoFar,
        trailer: [...(seenSoFar.trailer ?? [])],
        messages,
        code: error.code,
        error: isConnectError ? error.rawMessage : `no ConnectError: ${error.rawMessage}`,
        metadata: [...error.metadata],
        details: error.details,
        isWireError: (error as unknown as { isWireError: boolean }).isWireError,
        isAborted: isAborted(),
        told,
      };
    } finally {
      clearTimeout(timer);
      await within(5_000, subchannel.close(200));
    }
  }

  function isAborted(): boolean {
    return seen.signal?.aborted === true;
  }

  return {
    server,
    stock: (script, makeOptions = () => ({})) => outcomeOf(stock.stream, script, makeOptions()),
    own: (script, makeOptions = () => ({})) => outcomeOf(own.stream, script, makeOptions()),
  };
}

/** Takes down what is asked of it besides messages. */
function source(ids: readonly string[], told: Set<string>): AsyncIterable<{ id: string }> {
  const inner = ids.values();
  const iterator: AsyncIterator<{ id: string }> = {
    async next() {
      const { done, value } = inner.next();
      return done === true ? { done, value: undefined } : { done: false, value: { id: value } };
    },
    async return() {
      told.add("return");
      return { done: true, value: undefined };
    },
    async throw(reason: unknown) {
      told.add(`throw ${ConnectError.from(reason).code}`);
      throw reason;
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
