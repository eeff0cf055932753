import type { Interceptor } from "@connectrpc/connect";
import { callNext } from "#shared/rpc";
import { abortSignalOf } from "../call/lazy-abort-signal.ts";
import { notProcessedKind } from "../call/not-processed-error.ts";
import { noteFurtherAttempt, type OutgoingCall, outgoingCallKey } from "../call/outgoing-call.ts";
import { furtherHeaders } from "./retry/further-headers.ts";
import { createReplay } from "./retry/replay.ts";
import { sleep } from "./retry/sleep.ts";

export interface TransparentRetryOptions {
  /** The clock of the calls' deadlines. Default `performance.now()`. */
  readonly now?: () => number;
}

type Next = Parameters<Interceptor>[0];
type Request = Parameters<Next>[0];
type Response = Awaited<ReturnType<Next>>;

const MAX_SENDS = 10;
const FIRST_PAUSE_MS = 5;

/**
 * Sends an attempt again that its peer has not looked at (gRFC A6, "transparent retries"; RFC 9113, 6.8). That is always
 * safe, whatever the call does, and counts neither as an attempt nor against the throttle:
 * - one that never left is sent again up to `MAX_SENDS`, the first time at once and then with growing pauses;
 * - one that the peer refused is sent again once in a call; a second time is a failure like others.
 *
 * Each attempt passes here once, so here it is counted.
 */
export function transparentRetryInterceptor({
  now = performance.now.bind(performance),
}: TransparentRetryOptions = {}): Interceptor {
  /** Calls that were sent again since they were refused. */
  const refused = new WeakSet<OutgoingCall>();

  async function sendRepeatedly(next: Next, req: Request, call: OutgoingCall, first?: Promise<Response>) {
    const { deadlineMs = Number.POSITIVE_INFINITY } = call;
    const replay = createReplay(req);
    let request = req;
    for (let sends = 1; ; sends++) {
      const sending = replay?.begin(request);
      try {
        const res = await (sends === 1 && first !== undefined ? first : next(sending?.request ?? request));
        sending?.commit();
        return res;
      } catch (error) {
        const kind = notProcessedKind(error);
        const isAgain = kind === "unsent" || (kind === "refused" && !refused.has(call));
        if (isAgain && sends > 1 && sends < MAX_SENDS) await pause(FIRST_PAUSE_MS * 2 ** (sends - 2), req.signal);
        const isOver = sends >= MAX_SENDS || abortSignalOf(req).aborted || now() >= deadlineMs;
        if (!isAgain || isOver || replay?.isPossible() === false) {
          sending?.commit();
          throw error;
        }
        sending?.abandon();
        if (kind === "refused") refused.add(call);
        call.onUnpick?.();
        noteFurtherAttempt(call, "transparent");
        const header = furtherHeaders(req.header, { previousAttempts: 0, deadlineMs: call.deadlineMs, now: now() });
        request = { ...req, header };
      }
    }
  }

  return (next) => (req) => {
    const call = req.contextValues.get(outgoingCallKey);
    if (call === undefined) return next(req);
    call.attempts++;
    if (req.stream) return sendRepeatedly(next, req, call);
    const first = callNext(next, req);
    return first.catch(() => sendRepeatedly(next, req, call, first));
  };
}

/** Ends with the signal, too. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, signal).catch(() => {});
}
