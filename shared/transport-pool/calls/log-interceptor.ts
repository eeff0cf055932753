import { AsyncLocalStorage } from "node:async_hooks";
import {
  Code,
  ConnectError,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
} from "@connectrpc/connect";
import { currentCall } from "#shared/call-context";
import type { Logger } from "#shared/logging";
import { callNext, nameOfCode } from "#shared/rpc";
import { endOf } from "../policies/call-end.ts";
import { outgoingCallKey } from "../policies/outgoing-call.ts";
import { observeEnd } from "./observe-end.ts";

export interface LogInterceptorOptions {
  readonly logger: Pick<Logger, "debug" | "info" | "warn" | "isLevelEnabled">;
  /** The service's name. */
  readonly service: string;
  /** Its configured address. */
  readonly target: string;
}

/**
 * Codes that are the caller's own doing or a plain answer: worth a line, no alarm. All others say that something is
 * wrong with the peer, the way to it, or the contract.
 */
const EXPECTED: ReadonlySet<Code> = new Set([
  Code.Canceled,
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.PermissionDenied,
  Code.Unauthenticated,
  Code.FailedPrecondition,
  Code.Aborted,
  Code.OutOfRange,
]);

/**
 * One line for each call when it has ended, streams too: debug when it went well, info for codes that are an answer,
 * warn for those that are a fault. The logger adds the trace and request id of the call that it is part of.
 */
export function logInterceptor({ logger, service, target }: LogInterceptorOptions): Interceptor {
  function write(req: UnaryRequest | StreamRequest, startedAt: number, code: Code | undefined, error?: ConnectError) {
    const outgoing = req.contextValues.get(outgoingCallKey);
    const call = {
      // The logger's own `service` is the one that calls.
      peer_service: service,
      method: `${req.service.typeName}/${req.method.name}`,
      code: code === undefined ? "ok" : nameOfCode(code),
      ms: Math.round((performance.now() - startedAt) * 10) / 10,
      attempt: Math.max(outgoing?.attempts ?? 0, 1),
      peer: outgoing?.peer ?? target,
    };
    // No stack: the error goes to whoever made the call, and says there where it was made.
    if (error === undefined) logger.debug(call, "outgoing call");
    else {
      const level = code === undefined || EXPECTED.has(code) ? "info" : "warn";
      logger[level]({ ...call, error: error.message }, "outgoing call");
    }
  }

  function writeFailure(req: UnaryRequest | StreamRequest, startedAt: number, reason: unknown): void {
    // What Connect makes of it on the way out: the signal's reason, when that is what has ended the call.
    const end = endOf(req);
    const error = ConnectError.from(end.aborted ? end.reason : reason, Code.Canceled);
    // The incoming call has ended, however: this one was left, and the reason says nothing of its peer.
    const wasLeft = currentCall()?.signal.aborted === true && error.code !== Code.DeadlineExceeded;
    write(req, startedAt, wasLeft ? Code.Canceled : error.code, error);
  }

  function observed(req: StreamRequest, res: StreamResponse, startedAt: number): StreamResponse {
    // It ends wherever it is read, and its line belongs to the call that it is part of.
    const inCall = AsyncLocalStorage.snapshot();
    let isLogged = false;

    function ended(): void {
      if (isLogged) return;
      isLogged = true;
      inCall(write, req, startedAt, undefined);
    }

    function failed(reason: unknown): void {
      if (isLogged) return;
      isLogged = true;
      inCall(writeFailure, req, startedAt, reason);
    }

    // The signal also fires when a stream has ended well; that is logged by then.
    if (req.signal.aborted) failed(req.signal.reason);
    else req.signal.addEventListener("abort", () => failed(req.signal.reason), { once: true });
    return { ...res, message: observeEnd(res.message, ended, failed) };
  }

  return (next) => (req) => {
    const startedAt = req.contextValues.get(outgoingCallKey)?.startedAt ?? performance.now();
    const answer = callNext(next, req);
    return answer.then(
      (res) => {
        if (res.stream && req.stream) return observed(req, res, startedAt);
        if (logger.isLevelEnabled("debug")) write(req, startedAt, undefined);
        return res;
      },
      (error) => {
        writeFailure(req, startedAt, error);
        throw error;
      },
    );
  };
}
