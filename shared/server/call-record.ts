import { Code, type ConnectError } from "@connectrpc/connect";
import type { CallContext } from "#shared/call-context";
import type { Logger } from "#shared/logging";
import type { ServerExchange } from "./http/exchange.ts";

/** One call of the server's, from its head to its end. */
export interface CallRecord {
  /** Fully qualified, such as `user.v1.UserService/GetUser`. */
  readonly method: string;
  readonly protocol: "grpc" | "grpc-web" | "connect";
  /** What the transport knows: peer, HTTP version, start, bytes in each direction. */
  readonly exchange: Pick<
    ServerExchange,
    "peer" | "peerCertificate" | "httpVersion" | "startedAtMs" | "bytesRead" | "bytesWritten"
  >;
  /** Trace, request id and caller. */
  readonly callContext: CallContext;
  /** What the call failed with. Undefined: it has succeeded, or goes on. */
  readonly failure: ConnectError | undefined;
  /** The caller has sent something that cannot be read. */
  readonly isCallersFault: boolean;
  /** No layer has logged the failure. */
  readonly isUnlogged: boolean;
}

/** Receives the record of every call. A failure of an observer is logged and changes no call. */
export interface CallObserver {
  /** The head of a call has arrived. */
  begin?(record: CallRecord): void;
  /** Nothing more will be read or written. */
  end?(record: CallRecord): void;
}

const serverFaults: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss]);

/** Whether a failure is the server's, not the caller's. */
export function isServerFault({ failure, isCallersFault, isUnlogged }: CallRecord): boolean {
  if (failure === undefined || isCallersFault || failure.code === Code.Canceled) return false;
  return isUnlogged || serverFaults.has(failure.code);
}

/** Gives each call's record to the observers. */
export class CallRecords {
  readonly #observers: readonly CallObserver[];
  readonly #logger: Pick<Logger, "error">;

  constructor(observers: readonly CallObserver[], logger: Pick<Logger, "error">) {
    this.#observers = observers;
    this.#logger = logger;
  }

  begin(record: CallRecord): void {
    for (const observer of this.#observers) {
      try {
        observer.begin?.(record);
      } catch (err) {
        this.#failed(err, record);
      }
    }
  }

  end(record: CallRecord): void {
    for (const observer of this.#observers) {
      try {
        observer.end?.(record);
      } catch (err) {
        this.#failed(err, record);
      }
    }
  }

  #failed(err: unknown, { method }: CallRecord): void {
    this.#logger.error({ err, method }, "access log entry failed");
  }
}
