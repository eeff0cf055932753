import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { currentCall } from "#shared/call-context";
import { callNext } from "#shared/rpc";
import { noteFurtherAttempt, type OutgoingCall, outgoingCallKey } from "../../call/outgoing-call.ts";
import type { RetryConfig } from "../../config/retry.ts";
import { createAttemptSignal } from "./attempt-signal.ts";
import { furtherHeaders } from "./further-headers.ts";
import { createReplay, type ReplayedAttempt } from "./replay.ts";
import { createRetryPlan, type RetryPlan } from "./retry-plan.ts";
import type { RetryThrottle } from "./retry-throttle.ts";
import { sleep } from "./sleep.ts";

export interface RetryOptions {
  /** The service's: all of its calls share it. */
  readonly throttle: RetryThrottle;
  /** For the jitter. Default Math.random. */
  readonly random?: () => number;
  /** The clock of the calls' deadlines. Default `performance.now()`. */
  readonly now?: () => number;
}

type Next = Parameters<Interceptor>[0];
type Request = Parameters<Next>[0];
type Response = Awaited<ReturnType<Next>>;

/**
 * Makes further attempts of a call that has failed, as its policy's `retry` says: gRFC A6. Fails with what the last
 * attempt failed with.
 *
 * A call has its answer, and is not sent again, when a stream's response headers or a unary call's whole response are
 * there. (gRFC A6 goes by the headers of unary calls too, but then nothing that Connect's servers answer could be
 * retried: they send headers before a failure. The application has seen nothing by then.)
 *
 * A call that works for one that is itself a retry is not retried: of a chain of services that fails at its end, each
 * would multiply the attempts of the one before it. The first that retries does so for all.
 */
export function retryInterceptor(options: RetryOptions): Interceptor {
  const { throttle, random = Math.random, now = performance.now.bind(performance) } = options;

  function succeeded(res: Response): Response {
    throttle.succeeded();
    return res;
  }

  return (next) => (req) => {
    const call = req.contextValues.get(outgoingCallKey);
    const config = call?.policy.retry ?? call?.policy.unreachableRetry;
    if (call === undefined || config === undefined) return next(req);
    const startedAt = call.startedAt ?? now();
    const goOn = (first?: Promise<Response>) =>
      sendWithRetries(next, req, { call, config, throttle, random, now, startedAt }, first);
    // A first attempt with nothing to watch over: most calls need no more than that.
    if (!req.stream && call.policy.retry?.attemptTimeoutMs === undefined) {
      const first = callNext(next, req);
      return first.then(succeeded, () => goOn(first));
    }
    return goOn();
  };
}

interface Retrying extends Required<RetryOptions> {
  readonly call: OutgoingCall;
  readonly config: RetryConfig;
  /** On the clock of `now`. */
  readonly startedAt: number;
}

/** @param first what comes of the first attempt, when it has been made */
async function sendWithRetries(
  next: Next,
  req: Request,
  { call, config, throttle, random, now, startedAt }: Retrying,
  first?: Promise<Response>,
): Promise<Response> {
  const { policy, deadlineMs = Number.POSITIVE_INFINITY } = call;
  const lastBeginMs = Math.min(startedAt + config.timeoutMs, deadlineMs);
  // Most calls need none.
  let plan: RetryPlan | undefined;
  const replay = createReplay(req);
  let request = req;
  for (let attempts = 1; ; attempts++) {
    const attempt = createAttemptSignal(req.signal, policy.retry?.attemptTimeoutMs);
    // While no peer is there to take its time, the attempt has as long as the call: `wait_for_ready` says how to wait.
    call.onPick = attempt.startTimer;
    call.onUnpick = attempt.stopTimer;
    const sent = request.signal === attempt.signal ? request : { ...request, signal: attempt.signal };
    const sending = replay?.begin(sent);
    try {
      const res = await (attempts === 1 && first !== undefined ? first : next(sending?.request ?? sent));
      sending?.commit();
      attempt.stopTimer();
      throttle.succeeded();
      return res;
    } catch (error) {
      attempt.fail(error);
      plan ??= createRetryPlan({ policy, config, isRetried: currentCall()?.isRetried === true, throttle, random });
      const delayMs = req.signal.aborted ? undefined : plan.delayAfter(ConnectError.from(error), attempt.hasTimedOut());
      if (delayMs === undefined || now() + delayMs >= lastBeginMs || replay?.isPossible() === false) {
        sending?.commit();
        throw error;
      }
      sending?.abandon();
      await waitFor(delayMs, req.signal, sending);
      noteFurtherAttempt(call, "retry");
      const header = furtherHeaders(req.header, {
        previousAttempts: attempts,
        deadlineMs: call.deadlineMs,
        now: now(),
      });
      request = { ...req, header };
    } finally {
      call.onPick = undefined;
      call.onUnpick = undefined;
    }
  }
}

/** @throws ConnectError the call has ended */
async function waitFor(delayMs: number, signal: AbortSignal, sending: ReplayedAttempt | undefined): Promise<void> {
  try {
    await sleep(delayMs, signal);
  } catch (reason) {
    sending?.commit();
    throw ConnectError.from(reason, Code.Canceled);
  }
}
