import { Code, ConnectError, type Interceptor, type StreamResponse } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { type CallContext, currentCall, runInCall } from "#shared/call-context";
import type { Logger } from "#shared/logging";
import { callInfoKey } from "../call-info.ts";

/** Calls of the platform itself, asked for every few seconds by load balancers. */
const platformPackages = /^grpc\.(health|reflection)\./;

/** Failures that are the server's, not the caller's. */
const serverFaults: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss, Code.Unimplemented]);

/**
 * One line a call when it ends: method, code, ms, peer, caller; the logger adds trace and request id. At `info`, the
 * server's own faults at `error`, health checks and reflection at `debug`.
 *
 * The call's signal says when that is: Connect fires it at the end of every call, whichever way it ends, and after the
 * answer was encoded, which can fail too. Without a reason when all went well or the caller hung up.
 */
export function accessLogInterceptor(logger: Logger): Interceptor {
  return (next) => async (request) => {
    const { signal, service, method, contextValues } = request;
    const info = contextValues.get(callInfoKey);
    const call = currentCall();
    info.isLogged = true;
    /** Whether the handler has said all that it has to say. */
    let isDone = false;
    let failure: unknown;

    function logEnd(): void {
      const outcome = outcomeOf(signal, isDone, failure);
      logCall(logger, `${service.typeName}/${method.name}`, call, info, outcome);
    }

    async function* watched<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
      try {
        yield* items;
        isDone = true;
      } catch (error) {
        failure = error;
        throw error;
      }
    }

    if (signal.aborted) logEnd();
    else signal.addEventListener("abort", logEnd, { once: true });
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: watched(response.message) } as StreamResponse;
      isDone = true;
      return response;
    } catch (error) {
      failure = error;
      throw error;
    }
  };
}

interface Outcome {
  /** Undefined: ok. */
  readonly code: Code | undefined;
  /** A failure that nobody has logged: the handler was done, and then its answer could not be sent. */
  readonly err?: unknown;
}

function outcomeOf({ reason }: AbortSignal, isDone: boolean, failure: unknown): Outcome {
  if (failure !== undefined) return { code: ConnectError.from(failure).code };
  if (reason instanceof DOMException && reason.name === "AbortError") {
    return { code: isDone ? undefined : Code.Canceled };
  }
  const { code } = ConnectError.from(reason, Code.Internal);
  return isDone && code !== Code.Canceled ? { code, err: reason } : { code };
}

function logCall(
  logger: Logger,
  method: string,
  call: CallContext | undefined,
  { peer, startedAtMs }: { readonly peer: string; readonly startedAtMs: number },
  { code, err }: Outcome,
): void {
  const line = {
    method,
    caller: call?.caller,
    code: code === undefined ? "ok" : codeToString(code),
    ms: Math.round((performance.now() - startedAtMs) * 100) / 100,
    peer,
    ...(err === undefined ? {} : { err }),
  };
  const write = () => {
    if (err !== undefined || (code !== undefined && serverFaults.has(code))) logger.error(line, "call failed");
    else if (platformPackages.test(method)) logger.debug(line, "call");
    else logger.info(line, "call");
  };
  // Whoever fires a signal does so outside of the call.
  if (call === undefined) write();
  else runInCall(call, write);
}
