import { Code, ConnectError, type Interceptor, type StreamRequest, type StreamResponse } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { type CallContext, currentCall, runInCall } from "#shared/call-context";
import type { Logger } from "#shared/logging";
import { watchItems } from "#shared/streams";
import { type CallInfo, callInfoKey } from "../call-info.ts";
import { isPlatformService } from "./platform-services.ts";

/** Failures that are the server's, not the caller's. */
const serverFaults: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss]);

/**
 * One line a call when it ends, whichever way: method, code, ms, peer, caller; the logger adds trace and request id. At
 * `info`, the server's own faults at `error`, health checks and reflection at `debug`.
 *
 * The line is written when the transport has written its last, since an answer can still fail when it is encoded.
 */
export function accessLogInterceptor(logger: Logger): Interceptor {
  return (next) => async (request) => {
    const info = request.contextValues.get(callInfoKey);
    if (info === undefined) return next(request);
    const ending = new Ending();
    const method = `${request.service.typeName}/${request.method.name}`;
    const call = currentCall();
    info.onEnd = (answeredError) => logCall(logger, { method, call, info }, ending.outcome(answeredError));
    try {
      const response = await next(
        request.stream ? ({ ...request, message: ending.received(request.message) } as StreamRequest) : request,
      );
      if (response.stream) return { ...response, message: ending.sent(response.message) } as StreamResponse;
      ending.isDone = true;
      return response;
    } catch (error) {
      ending.failure = error;
      throw error;
    }
  };
}

interface Outcome {
  /** Undefined: ok. */
  readonly code: Code | undefined;
  /** Whether it is the server's fault. */
  readonly isOurs: boolean;
  /** A failure that nobody has logged yet. */
  readonly err?: unknown;
}

const OK: Outcome = { code: undefined, isOurs: false };

/** How one call ends, pieced together from what passes by. */
class Ending {
  /** The handler has said all that it has to say. */
  isDone = false;
  failure: unknown;
  #isUnreadable = false;

  received<T>(items: AsyncIterable<T>): AsyncIterable<T> {
    return watchItems(items, {
      onError: (reason) => {
        // The caller's stream has failed: then no code makes it our fault.
        this.#isUnreadable = true;
        return reason;
      },
    });
  }

  sent<T>(items: AsyncIterable<T>): AsyncIterable<T> {
    return watchItems(items, {
      onEnd: () => {
        this.isDone = true;
      },
      onError: (reason) => {
        this.failure = reason;
        return reason;
      },
    });
  }

  outcome(answeredError: () => ConnectError | undefined): Outcome {
    if (this.failure !== undefined) {
      const { code } = ConnectError.from(this.failure);
      return { code, isOurs: serverFaults.has(code) && !this.#isUnreadable };
    }
    const error = answeredError();
    if (error?.code === Code.Canceled) return { code: error.code, isOurs: false };
    // The handler had done its part, or was closed in the middle of it, because its answer could not be encoded.
    if (error !== undefined) return { code: error.code, isOurs: true, err: error };
    return this.isDone ? OK : { code: Code.Canceled, isOurs: false };
  }
}

interface LoggedCall {
  readonly method: string;
  readonly call: CallContext | undefined;
  readonly info: CallInfo;
}

function logCall(logger: Logger, { method, call, info }: LoggedCall, { code, isOurs, err }: Outcome): void {
  const line = {
    method,
    caller: call?.caller,
    code: code === undefined ? "ok" : codeToString(code),
    ms: Math.round((performance.now() - info.startedAtMs) * 100) / 100,
    peer: info.peer,
    ...(err === undefined ? {} : { err }),
  };
  const write = () => {
    if (isOurs) logger.error(line, "call failed");
    else if (isPlatformService(method)) logger.debug(line, "call");
    else logger.info(line, "call");
  };
  // The transport ends a call outside of it.
  if (call === undefined) write();
  else runInCall(call, write);
}
