import {
  Code,
  ConnectError,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
} from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { currentCall } from "#shared/call-context";
import { callFields, type Logger } from "#shared/logging";
import { callNext, watchItems } from "#shared/rpc";
import { type CallInfo, type CallLog, callInfoKey } from "../call-info.ts";
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
  return (next) => (request) => {
    const info = request.contextValues.get(callInfoKey);
    if (info === undefined) return next(request);
    const ending = new Ending(logger, request, info);
    info.log = ending;
    const seen = request.stream
      ? ({ ...request, message: ending.received(request.message) } as StreamRequest)
      : request;
    return callNext(next, seen).then(
      (response) => {
        if (response.stream) return { ...response, message: ending.sent(response.message) } as StreamResponse;
        ending.isDone = true;
        return response;
      },
      (error) => {
        ending.failure = error;
        throw error;
      },
    );
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
class Ending implements CallLog {
  /** The handler has said all that it has to say. */
  isDone = false;
  failure: unknown = undefined;
  #isUnreadable = false;
  readonly #logger: Logger;
  readonly #method: string;
  readonly #call = currentCall();
  readonly #info: CallInfo;

  constructor(logger: Logger, { service, method }: UnaryRequest | StreamRequest, info: CallInfo) {
    this.#logger = logger;
    this.#method = `${service.typeName}/${method.name}`;
    this.#info = info;
  }

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

  ended(answeredError: () => ConnectError | undefined): void {
    const { code, isOurs, err } = this.#outcome(answeredError);
    const line = {
      // The transport ends a call outside of it.
      ...callFields(this.#call),
      method: this.#method,
      caller: this.#call?.caller,
      code: code === undefined ? "ok" : codeToString(code),
      ms: Math.round((performance.now() - this.#info.startedAtMs) * 100) / 100,
      peer: this.#info.peer,
      err,
    };
    if (isOurs) this.#logger.error(line, "call failed");
    else if (isPlatformService(this.#method)) this.#logger.debug(line, "call");
    else this.#logger.info(line, "call");
  }

  #outcome(answeredError: () => ConnectError | undefined): Outcome {
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
