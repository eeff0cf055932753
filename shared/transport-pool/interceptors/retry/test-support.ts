import type { TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextValues,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { BookService, GetBookRequestSchema, GetBookResponseSchema } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import type { MethodPolicy } from "../../call/method-policy.ts";
import { type OutgoingCall, outgoingCallKey } from "../../call/outgoing-call.ts";
import type { RetryConfig } from "../../config/retry.ts";

/** Random whole numbers from `low` to `high`, and random choices. */
export function chooser(random: () => number) {
  const int = (low: number, high: number) => low + Math.floor(random() * (high - low + 1));
  return {
    int,
    of<T>(...items: readonly [T, ...T[]]): T {
      return items[int(0, items.length - 1)] ?? items[0];
    },
    chance: (share: number) => random() < share,
  };
}

/** Time that passes only while somebody runs it, to the fraction of a millisecond. */
export interface FakeClock {
  now(): number;
  /** Lets time pass from timer to timer until the work is done. */
  run<T>(work: Promise<T>): Promise<T>;
  /** Lets so much time pass. */
  advance(ms: number): Promise<void>;
  /** Timers that have not fired. */
  timers(): number;
}

/** Takes the place of `setTimeout`, `clearTimeout` and `performance.now` for the rest of the test. */
export function fakeClock(t: TestContext): FakeClock {
  interface Timer {
    readonly at: number;
    readonly order: number;
    readonly fire: () => void;
  }
  const timers = new Set<Timer>();
  let time = 1_000;
  let order = 0;

  const setTimer = (callback: (...args: unknown[]) => void, ms = 0, ...args: unknown[]): unknown => {
    const timer = { at: time + Math.max(0, ms), order: order++, fire: () => callback(...args), unref: () => timer };
    timers.add(timer);
    return timer;
  };
  t.mock.method(globalThis, "setTimeout", setTimer as never);
  t.mock.method(globalThis, "clearTimeout", ((timer: Timer) => void timers.delete(timer)) as never);
  t.mock.method(performance, "now", () => time);

  function first(): Timer | undefined {
    let earliest: Timer | undefined;
    for (const timer of timers) {
      if (
        earliest === undefined ||
        timer.at < earliest.at ||
        (timer.at === earliest.at && timer.order < earliest.order)
      ) {
        earliest = timer;
      }
    }
    return earliest;
  }

  function fire(timer: Timer): void {
    timers.delete(timer);
    time = Math.max(time, timer.at);
    timer.fire();
  }

  return {
    now: () => time,
    timers: () => timers.size,
    async run(work) {
      let isDone = false;
      work.then(
        () => {
          isDone = true;
        },
        () => {
          isDone = true;
        },
      );
      for (let idle = 0; ; ) {
        await nextTurn();
        if (isDone) return work;
        const timer = first();
        if (timer !== undefined) fire(timer);
        // What goes on without timers takes a few turns, and not for ever.
        else if (++idle > 1_000) throw new Error("nothing will ever end this work");
      }
    },
    async advance(ms) {
      const end = time + ms;
      await nextTurn();
      for (let timer = first(); timer !== undefined && timer.at <= end; timer = first()) {
        fire(timer);
        await nextTurn();
      }
      time = end;
      await nextTurn();
    },
  };
}

export const defaultRetry: RetryConfig = {
  max: 3,
  timeoutMs: 10_000,
  backoffMs: 100,
  multiplier: 2,
  maxBackoffMs: 1_000,
  codes: [Code.Unavailable],
};

export function callOf(policy: Partial<MethodPolicy>, deadlineMs?: number): OutgoingCall {
  return {
    policy: { timeoutMs: 5_000, waitForReady: false, ...policy },
    deadlineMs,
    attempts: 0,
    tried: new Set(),
  };
}

interface RequestOptions {
  readonly signal?: AbortSignal;
  readonly header?: ConstructorParameters<typeof Headers>[0];
}

export function unaryRequest(call: OutgoingCall | undefined, options: RequestOptions = {}): UnaryRequest {
  const message = create(GetBookRequestSchema, { id: "b1" });
  return { ...common(call, options), stream: false, service: BookService, method: BookService.method.getBook, message };
}

// The policies do not look at what kind of stream it is; no service here has a client stream.
export function streamRequest(
  call: OutgoingCall | undefined,
  messages: AsyncIterable<unknown>,
  options: RequestOptions = {},
): StreamRequest {
  const message = messages as StreamRequest["message"];
  const { watchOrder } = OrderService.method;
  return { ...common(call, options), stream: true, service: OrderService, method: watchOrder, message };
}

function common(call: OutgoingCall | undefined, { signal = new AbortController().signal, header }: RequestOptions) {
  const contextValues = createContextValues();
  if (call !== undefined) contextValues.set(outgoingCallKey, call);
  return { requestMethod: "POST", url: "http://localhost:9002", signal, header: new Headers(header), contextValues };
}

export function unaryAnswer(): UnaryResponse {
  const { getBook } = BookService.method;
  const message = create(GetBookResponseSchema);
  return {
    stream: false,
    service: BookService,
    method: getBook,
    header: new Headers(),
    trailer: new Headers(),
    message,
  };
}

export function streamAnswer(messages: AsyncIterable<unknown>): StreamResponse {
  const message = messages as StreamResponse["message"];
  const { watchOrder } = OrderService.method;
  const headers = { header: new Headers(), trailer: new Headers() };
  return { stream: true, service: OrderService, method: watchOrder, ...headers, message };
}

export function pushedBack(ms: string, code = Code.Unavailable): ConnectError {
  return new ConnectError("pushed back", code, { "grpc-retry-pushback-ms": ms });
}

/** What becomes of one attempt: after so long, by default at once. */
export interface Step {
  readonly afterMs?: number;
  /** A code, an error, or an answer. Default: never any. */
  readonly with?: Code | Error | "ok" | StreamResponse | undefined;
  /** Only then is a peer picked, which `afterMs` counts from. Default: at once. */
  readonly pickedAfterMs?: number;
}

export interface Send {
  readonly at: number;
  readonly req: UnaryRequest | StreamRequest;
  /** As they were when it was sent. */
  readonly header: Headers;
}

/** What comes after the interceptors: attempt after attempt does as the script says, and then as its last step says. */
export function scriptedPeer(clock: Pick<FakeClock, "now">, ...script: readonly [Step, ...Step[]]) {
  const sends: Send[] = [];
  const next: Parameters<Interceptor>[0] = (req) => {
    const step = script[Math.min(sends.length, script.length - 1)] ?? script[0];
    sends.push({ at: clock.now(), req, header: new Headers(req.header) });
    const call = req.contextValues.get(outgoingCallKey);
    return new Promise((resolve, reject) => {
      const { signal } = req;
      const onAbort = () => reject(ConnectError.from(signal.reason, Code.Canceled));
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort);
      const answer = () => {
        if (step.with === "ok") resolve(unaryAnswer());
        else if (step.with instanceof Error) reject(step.with);
        else if (typeof step.with === "object") resolve(step.with);
        else reject(new ConnectError("scripted", step.with));
      };
      const picked = () => {
        if (signal.aborted) return;
        call?.tried.add("127.0.0.1:9002");
        call?.onPick?.();
        if (step.with === undefined) return;
        if (step.afterMs === undefined) answer();
        else setTimeout(answer, step.afterMs);
      };
      if (step.pickedAfterMs === undefined) picked();
      else setTimeout(picked, step.pickedAfterMs);
    });
  };
  return { next, sends, times: () => sends.map(({ at }) => at) };
}

/** A signal that fires as Connect's does when the deadline passes. */
export function deadlineSignal(ms: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded)), ms);
  return controller.signal;
}

export async function failureOf(work: Promise<unknown>): Promise<ConnectError> {
  try {
    await work;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("it did not fail");
}
