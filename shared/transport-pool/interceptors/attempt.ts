import type { Interceptor, StreamRequest, StreamResponse, UnaryRequest } from "@connectrpc/connect";
import { callNext } from "#shared/rpc";
import type { Channel } from "../balancing/channel.ts";
import type { Endpoint } from "../balancing/endpoint.ts";
import { abortSignalOf, type EndSignal } from "../call/lazy-abort-signal.ts";
import { outgoingCallKey } from "../call/outgoing-call.ts";
import { AttemptOutcome, type OnOutcome } from "./attempt-outcome.ts";
import { observeEnd } from "./observe-end.ts";
import { setTimeLeft } from "./retry/further-headers.ts";

export type Request = UnaryRequest | StreamRequest;
export type Next = ReturnType<Interceptor>;
export type Response = Awaited<ReturnType<Next>>;

/** Sends a request to one endpoint. */
export type SendTo = (endpoint: Endpoint, request: Request) => Promise<Response>;

export interface AttemptOptions {
  readonly channel: Pick<Channel, "pick">;
  /** Header whose value keeps calls together, for `consistent_hash`. */
  readonly hashHeader: string | undefined;
  readonly onOutcome: OnOutcome;
}

/**
 * The end of the interceptor chain: picks an endpoint, sends the request there, and tells the endpoint how that went. A
 * call that has ended neither waits for a connection nor opens a stream.
 *
 * None of its functions is async: each costs more than all that most interceptors do.
 */
export function createAttempt({ channel, hashHeader, onOutcome }: AttemptOptions): (send: SendTo) => Next {
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

  function picked(req: Request, endpoint: Endpoint, askedAt: number, startedAt: number): void {
    const call = req.contextValues.get(outgoingCallKey);
    if (call === undefined) return;
    call.tried.add(endpoint.address);
    call.peer = endpoint.address;
    call.onPick?.();
    if (call.deadlineMs !== undefined && startedAt - askedAt >= 1) setTimeLeft(req.header, call.deadlineMs - startedAt);
  }

  function begin(send: SendTo, req: Request): Promise<Response> {
    const signal = abortSignalOf(req);
    signal.throwIfAborted();
    const askedAt = performance.now();
    const endpoint = pick(req, signal, askedAt);
    if (!(endpoint instanceof Promise)) return sendTo(endpoint, send, req, signal, askedAt, askedAt);
    return endpoint.then((one) => sendTo(one, send, req, signal, askedAt, performance.now()));
  }

  function sendTo(
    endpoint: Endpoint,
    send: SendTo,
    req: Request,
    signal: EndSignal,
    askedAt: number,
    startedAt: number,
  ): Promise<Response> {
    picked(req, endpoint, askedAt, startedAt);
    const outcome = new AttemptOutcome({ endpoint, signal, isStream: req.stream, startedAt, onOutcome });
    return callNext((one: Request) => send(endpoint, one), req).then(
      (res) => {
        if (res.stream) return watched(res, signal, outcome);
        outcome.succeeded();
        return res;
      },
      (reason) => {
        outcome.failed(reason);
        throw reason;
      },
    );
  }

  return (send) => (req) => begin(send, req);
}

function watched(res: StreamResponse, signal: EndSignal, outcome: AttemptOutcome): StreamResponse {
  outcome.answered();
  // The signal also fires when a stream has ended well; that is noted by then.
  if (signal.aborted) outcome.failed(signal.reason);
  else signal.addEventListener("abort", () => outcome.failed(signal.reason));
  const message = observeEnd(
    res.message,
    () => outcome.ended(undefined),
    (reason) => outcome.failed(reason),
  );
  return { ...res, message };
}
