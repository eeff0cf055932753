import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { currentCall } from "#shared/call-context";
import { notProcessedKind } from "../call/not-processed-error.ts";
import { noteFurtherAttempt, outgoingCallKey } from "../call/outgoing-call.ts";
import type { HedgeConfig } from "../config/hedge.ts";
import { type HedgeVerdict, raceHedges } from "./hedge-race.ts";
import { furtherHeaders } from "./retry/further-headers.ts";
import { readPushback } from "./retry/pushback.ts";
import type { RetryThrottle } from "./retry/retry-throttle.ts";

export interface HedgeOptions {
  /** The service's, the same that its retries draw on. */
  readonly throttle: RetryThrottle;
  /** The clock of the calls' deadlines. Default `performance.now()`. */
  readonly now?: () => number;
}

/**
 * Sends a unary call again while its answer is overdue, as its policy's `hedge` says, and takes the first answer: gRFC
 * A6, "hedging policy". The others are cancelled, at their peers too. Fails with the first fatal failure, or with the
 * last when all have failed. Streams pass through.
 *
 * As with retries, a call that works for a repeated one is not hedged.
 */
export function hedgeInterceptor(options: HedgeOptions): Interceptor {
  const { throttle, now = performance.now.bind(performance) } = options;
  return (next) => (req) => {
    const call = req.contextValues.get(outgoingCallKey);
    const hedge = call?.policy.hedge;
    if (call === undefined || hedge === undefined || req.stream) return next(req);
    return raceHedges({
      max: currentCall()?.isRetried === true ? 0 : hedge.max,
      delayMs: hedge.delayMs,
      signal: req.signal,
      mayHedge: () => throttle.allows(),
      judge: (error) => judge(ConnectError.from(error), hedge, throttle),
      async send(index, signal) {
        const { deadlineMs } = call;
        if (index > 0) noteFurtherAttempt(call, "hedge");
        const header =
          index === 0 ? req.header : furtherHeaders(req.header, { previousAttempts: index, deadlineMs, now: now() });
        const res = await next({ ...req, header, signal });
        throttle.succeeded();
        return res;
      },
    });
  };
}

/** The same rules as for retries; here a failure that is not worth another attempt is fatal. */
function judge(failure: ConnectError, hedge: HedgeConfig, throttle: RetryThrottle): HedgeVerdict {
  const kind = notProcessedKind(failure);
  if (kind === "rejected") return "fatal";
  const pushback = readPushback(failure.metadata);
  const isNonFatal = kind !== undefined || hedge.codes.includes(failure.code);
  const costsToken = kind === undefined || kind === "refused";
  if (costsToken && (isNonFatal || pushback === "never")) throttle.failed();
  if (!isNonFatal) return "fatal";
  return pushback === "never" ? "no_more" : { nextInMs: pushback ?? 0 };
}
