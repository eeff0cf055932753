import { AsyncLocalStorage } from "node:async_hooks";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor, type StreamRequest, type UnaryRequest } from "@connectrpc/connect";
import { callNext } from "#shared/rpc";
import type { Channel } from "../balancing/channel.ts";
import type { Endpoint } from "../balancing/endpoint.ts";
import { type EndSignal, endOf } from "../policies/call-end.ts";
import { setTimeLeft } from "../policies/further-headers.ts";
import { outgoingCallKey } from "../policies/outgoing-call.ts";
import { AttemptOutcome, type OnOutcome } from "./attempt-outcome.ts";
import { handOn } from "./hand-on.ts";
import { observeEnd } from "./observe-end.ts";

/** One sending of a call to one peer. */
export interface Attempt {
  readonly endpoint: Endpoint;
  /** Fires when the attempt has ended, well or not. */
  readonly signal: AbortSignal;
}

const storage = new AsyncLocalStorage<Attempt>();

/** The attempt that the running code sends: the interfaces of Connect's transports have no room for it. */
export function currentAttempt(): Attempt {
  const attempt = storage.getStore();
  if (attempt === undefined) throw new ConnectError("not in an attempt of the transport pool", Code.Internal);
  return attempt;
}

/** Runs `work` as an attempt of nobody's call, such as a health check. */
export function runInAttempt<T>(attempt: Attempt, work: () => T): T {
  return storage.run(attempt, work);
}

export interface AttemptOptions {
  readonly channel: Pick<Channel, "pick">;
  /** What keeps calls together, for `consistent_hash`. */
  readonly hashHeader: string | undefined;
  /**
   * The calls that are sent by `createUnary` and `createStream`: their endpoint is handed on without an
   * AsyncLocalStorage. Default none.
   */
  readonly direct?: ReadonlySet<DescMethod["methodKind"]>;
  readonly onOutcome: OnOutcome;
}

type Next = Parameters<Interceptor>[0];
type Request = UnaryRequest | StreamRequest;

/**
 * Sends the call once: chooses an endpoint, and tells it how that went. Has to be the innermost interceptor. A call
 * that has ended neither waits for a connection nor opens a stream.
 */
export function attemptInterceptor(options: AttemptOptions): Interceptor {
  const { channel, hashHeader, direct, onOutcome } = options;

  function pick(req: Request, signal: EndSignal, askedAt: number): Endpoint | Promise<Endpoint> {
    const call = req.contextValues.get(outgoingCallKey);
    const pick = {
      signal,
      waitForReady: call?.policy.waitForReady ?? false,
      tried: call?.tried,
      hashKey: hashHeader === undefined ? undefined : (req.header.get(hashHeader) ?? undefined),
    };
    return channel.pick(pick, askedAt);
  }

  /** The attempt's time begins. */
  function picked(req: Request, endpoint: Endpoint, askedAt: number, startedAt: number): void {
    const call = req.contextValues.get(outgoingCallKey);
    if (call === undefined) return;
    call.tried.add(endpoint.address);
    call.peer = endpoint.address;
    call.onPick?.();
    if (call.deadlineMs !== undefined && startedAt - askedAt >= 1) setTimeLeft(req.header, call.deadlineMs - startedAt);
  }

  /** Neither this nor what stands around it is an async function: each costs more than all that most policies do. */
  function sendDirect(next: Next, req: Request): ReturnType<Next> {
    const signal = endOf(req);
    signal.throwIfAborted();
    const askedAt = performance.now();
    const endpoint = pick(req, signal, askedAt);
    return endpoint instanceof Promise
      ? endpoint.then((one) => sendTo(one, next, req, signal, askedAt, performance.now()))
      : sendTo(endpoint, next, req, signal, askedAt, askedAt);
  }

  function sendTo(
    endpoint: Endpoint,
    next: Next,
    req: Request,
    signal: EndSignal,
    askedAt: number,
    startedAt: number,
  ): ReturnType<Next> {
    picked(req, endpoint, askedAt, startedAt);
    const outcome = new AttemptOutcome({ endpoint, signal, isStream: false, startedAt, onOutcome });
    return handOn(endpoint, next, req).then(
      (res) => {
        outcome.succeeded();
        return res;
      },
      (reason) => {
        outcome.failed(reason);
        throw reason;
      },
    );
  }

  async function send(next: Next, req: Request): ReturnType<Next> {
    const { signal } = req;
    signal.throwIfAborted();
    const askedAt = performance.now();
    const picking = pick(req, signal, askedAt);
    const endpoint = picking instanceof Promise ? await picking : picking;
    const startedAt = picking instanceof Promise ? performance.now() : askedAt;
    picked(req, endpoint, askedAt, startedAt);
    const outcome = new AttemptOutcome({ endpoint, signal, isStream: req.stream, startedAt, onOutcome });
    try {
      const res = await (direct?.has(req.method.methodKind)
        ? handOn(endpoint, next, req)
        : storage.run({ endpoint, signal }, next, req));
      if (!res.stream) {
        outcome.succeeded();
        return res;
      }
      outcome.answered();
      // The signal also fires when a stream has ended well; that is noted by then.
      if (signal.aborted) outcome.failed(signal.reason);
      else signal.addEventListener("abort", () => outcome.failed(signal.reason), { once: true });
      return {
        ...res,
        message: observeEnd(
          res.message,
          () => outcome.ended(undefined),
          (reason) => outcome.failed(reason),
        ),
      };
    } catch (error) {
      outcome.failed(error);
      throw error;
    }
  }

  const isUnaryDirect = direct?.has("unary") ?? false;
  return (next) => {
    const sendUnary = (req: Request) => sendDirect(next, req);
    return (req) => (isUnaryDirect && !req.stream ? callNext(sendUnary, req) : send(next, req));
  };
}
