import type { DescMethod } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
} from "@connectrpc/connect";
import { callNext, watchItems } from "#shared/rpc";
import { abortSignalOf } from "../../call/lazy-abort-signal.ts";
import { notProcessed, notProcessedKind } from "../../call/not-processed-error.ts";
import { type OutgoingCall, outgoingCallKey } from "../../call/outgoing-call.ts";
import type { BreakerConfig } from "../../config/breaker.ts";
import { isServerFault } from "../../config/codes.ts";
import { type Breaker, type BreakerPass, type BreakerState, type BreakerVerdict, createBreaker } from "./breaker.ts";

/** The breakers of one service, one for each of its methods. */
export interface Breakers {
  readonly interceptor: Interceptor;
  /** By method, `pkg.Service/Method`: those that have been called. */
  states(): ReadonlyMap<string, BreakerState>;
}

export interface BreakersOptions {
  /** The clock of the calls' deadlines. Default `performance.now()`. */
  readonly now?: () => number;
  /** The breaker of a method has opened or closed, or lets a call through to try the peer. */
  readonly onChange?: (method: string, state: BreakerState) => void;
}

/**
 * Refuses calls of methods that fail too often: with UNAVAILABLE, and `rejected` as what says that it did not go out.
 *
 * What counts is what the peer has made of a call, after all of its attempts: faults by `isServerFault`, any other answer
 * as a success. What did not reach the peer and what this side has cancelled do not count.
 *
 * A stream's response headers are an answer, whose messages may come late or never: a stream that has them is a success,
 * unless it fails with a fault before its first message. That its time is over is no fault then, and says nothing before.
 */
export function createBreakers({ now = performance.now.bind(performance), onChange }: BreakersOptions = {}): Breakers {
  // No more than the contract has methods.
  const breakers = new Map<string, Breaker>();
  const known = new Map<DescMethod, Breaker>();

  function breakerOf(method: DescMethod, config: BreakerConfig): Breaker {
    let breaker = known.get(method);
    if (breaker === undefined) {
      const name = nameOf(method);
      breaker = breakers.get(name) ?? createBreaker({ config, now, onChange: (state) => onChange?.(name, state) });
      breakers.set(name, breaker);
      known.set(method, breaker);
    }
    return breaker;
  }

  const interceptor: Interceptor = (next) => (req) => {
    const call = req.contextValues.get(outgoingCallKey);
    const config = call?.policy.breaker;
    if (call === undefined || config === undefined) return next(req);
    const breaker = breakerOf(req.method, config);
    const pass = breaker.begin(config);
    if (pass === undefined) return Promise.reject(refusal(nameOf(req.method), breaker.state(), now()));
    return judged(next, req, { call, pass, startedAt: pass.isProbe ? now() : 0, breaker, config });
  };

  return {
    interceptor,
    states: () => new Map([...breakers].map(([method, breaker]) => [method, breaker.state()])),
  };
}

function nameOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

function refusal(method: string, { state, retryAtMs = 0 }: BreakerState, now: number): ConnectError {
  const inMs = Math.max(0, Math.ceil(retryAtMs - now));
  const reason =
    state === "open"
      ? `is not called again for ${inMs} ms`
      : `is being tried by another call, the next will be let through in ${inMs} ms at the latest`;
  return notProcessed("rejected", `${method} has failed too often and ${reason}`);
}

interface Judged {
  readonly call: OutgoingCall;
  readonly pass: BreakerPass;
  /** Of a probe. */
  readonly startedAt: number;
  readonly breaker: Breaker;
  readonly config: BreakerConfig;
}

function judged(next: Parameters<Interceptor>[0], req: UnaryRequest | StreamRequest, context: Judged) {
  const { pass } = context;
  return callNext(next, req).then(
    (res) => {
      if (res.stream) return judgedByAnswer(res, req.signal, context);
      pass.end("success");
      return res;
    },
    (error) => {
      pass.end(verdictOf(error, req, context));
      throw error;
    },
  );
}

function judgedByAnswer(res: StreamResponse, signal: AbortSignal, context: Judged): StreamResponse {
  const pass = context.pass.isProbe ? passAfterProbe(context) : context.pass;
  let isJudged = false;
  // The first word counts; errors for the others would be made for nothing.
  function judge(verdict: () => BreakerVerdict): void {
    if (isJudged) return;
    isJudged = true;
    pass?.end(verdict());
  }
  // Whoever leaves a stream leaves one that was answered. The signal also fires when one has ended well.
  const onAbort = () => judge(() => verdictAfterHeaders(signal.reason));
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });

  const message = watchItems(res.message, {
    onItem(item) {
      judge(success);
      return item;
    },
    onEnd: () => judge(success),
    onError(reason) {
      judge(() => verdictAfterHeaders(signal.aborted ? signal.reason : reason));
      return reason;
    },
  });
  return { ...res, message };
}

const success = (): BreakerVerdict => "success";

function verdictAfterHeaders(error: unknown): BreakerVerdict {
  const { code } = ConnectError.from(error, Code.Canceled);
  return isServerFault(code) && code !== Code.DeadlineExceeded ? "failure" : "success";
}

/** Other calls do not wait for a quiet stream's first message. From its headers on it is a call of a closed breaker. */
function passAfterProbe({ pass, breaker, config }: Judged): BreakerPass | undefined {
  pass.end("success");
  return breaker.begin(config);
}

/** As a probe, a call that had less than this share of the usual time and has run out of it says nothing. */
const ENOUGH_TIME = 0.5;

function verdictOf(
  error: unknown,
  request: UnaryRequest | StreamRequest,
  { call, pass, startedAt }: Judged,
): BreakerVerdict {
  if (notProcessedKind(error) !== undefined) return "none";
  const signal = abortSignalOf(request);
  const { code } = ConnectError.from(signal.aborted ? signal.reason : error, Code.Canceled);
  if (code === Code.Canceled) return "none";
  if (!isServerFault(code)) return "success";
  if (code === Code.DeadlineExceeded) {
    // Many servers send a stream's headers only with its first message, which may be long in coming.
    if (call.tried.size === 0 || request.stream) return "none";
    const givenMs = (call.deadlineMs ?? Number.POSITIVE_INFINITY) - startedAt;
    if (pass.isProbe && givenMs < call.policy.timeoutMs * ENOUGH_TIME) return "none";
  }
  return "failure";
}
