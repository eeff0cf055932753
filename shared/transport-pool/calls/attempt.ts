import { AsyncLocalStorage } from "node:async_hooks";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Channel } from "../balancing/channel.ts";
import type { Endpoint } from "../balancing/endpoint.ts";
import { isServerFault } from "../policies/codes.ts";
import { setTimeLeft } from "../policies/further-headers.ts";
import { outgoingCallKey } from "../policies/outgoing-call.ts";
import { unsentKind } from "../policies/unsent.ts";
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
  /** What the outcome of an attempt says of its endpoint. */
  readonly onOutcome: (endpoint: Endpoint, isFault: boolean) => void;
}

/**
 * Sends the call once: chooses an endpoint, and tells it how that went. Has to be the innermost interceptor. A call
 * that has ended neither waits for a connection nor opens a stream.
 */
export function attemptInterceptor(options: AttemptOptions): Interceptor {
  const { channel, hashHeader, direct, onOutcome } = options;
  return (next) => async (req) => {
    const { signal } = req;
    signal.throwIfAborted();
    const call = req.contextValues.get(outgoingCallKey);
    const askedAt = performance.now();
    const pick = {
      signal,
      waitForReady: call?.policy.waitForReady ?? false,
      tried: call?.tried,
      hashKey: hashHeader === undefined ? undefined : (req.header.get(hashHeader) ?? undefined),
    };
    const picked = channel.pick(pick, askedAt);
    const endpoint = picked instanceof Promise ? await picked : picked;
    if (call !== undefined) {
      call.tried.add(endpoint.address);
      call.peer = endpoint.address;
    }
    call?.onPick?.();
    const startedAt = picked instanceof Promise ? performance.now() : askedAt;
    let hasEnded = false;
    let isAnswered = false;
    if (call?.deadlineMs !== undefined && startedAt - askedAt >= 1) {
      setTimeLeft(req.header, call.deadlineMs - startedAt);
    }

    function ended(code: Code | undefined, ms?: number, now = performance.now()): void {
      if (hasEnded) return;
      hasEnded = true;
      const isFault = code !== undefined && isServerFault(code);
      endpoint.end({ isFault, now, ms });
      if (code !== Code.Canceled) onOutcome(endpoint, isFault);
    }

    function failed(reason: unknown): void {
      // Connect's own meaning on the way out: the signal's reason, when that is what has ended the attempt.
      const error = ConnectError.from(signal.aborted ? signal.reason : reason, Code.Canceled);
      if (unsentKind(error) !== undefined) {
        // Says nothing of the peer but that it is going, and its connection says that itself.
        hasEnded = true;
        endpoint.end({ isFault: false, now: performance.now() });
        return;
      }
      const isTimeUp = signal.aborted && error.code === Code.DeadlineExceeded;
      if (isAnswered) {
        // A stream goes on for as long as the caller wanted to watch: no fault of anybody.
        ended(isTimeUp ? Code.Canceled : error.code);
        return;
      }
      // Whoever left has waited for so long, and the answer was still to come.
      const ms = performance.now() - startedAt;
      const isSlow = ms > (endpoint.latencyMs(performance.now()) ?? 0);
      if (isTimeUp || (signal.aborted && isSlow)) endpoint.subchannel.checkAlive();
      // Connect's servers begin a stream with its first message, for which there may have been no reason yet.
      if (req.stream && isTimeUp) {
        ended(Code.Canceled);
        return;
      }
      ended(error.code, error.code !== Code.Canceled || isSlow ? ms : undefined);
    }

    try {
      const res = await (direct?.has(req.method.methodKind)
        ? handOn(endpoint, next, req)
        : storage.run({ endpoint, signal }, next, req));
      if (!res.stream) {
        const now = performance.now();
        ended(undefined, now - startedAt, now);
        return res;
      }
      // How long a stream goes on says nothing, and neither does when it begins: with its first message.
      isAnswered = true;
      // The signal also fires when a stream has ended well; that is noted by then.
      if (signal.aborted) failed(signal.reason);
      else signal.addEventListener("abort", () => hasEnded || failed(signal.reason), { once: true });
      return {
        ...res,
        message: observeEnd(
          res.message,
          () => ended(undefined),
          (reason) => hasEnded || failed(reason),
        ),
      };
    } catch (error) {
      if (!hasEnded) failed(error);
      throw error;
    }
  };
}
