import type { DescMethod } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";

/** One outgoing call, over all of its attempts. */
export interface CallRecord {
  /** The service's name in the configuration. */
  readonly service: string;
  readonly method: DescMethod;
  readonly protocol: "grpc" | "grpc-web" | "connect";
  readonly httpVersion: "1.1" | "2";
  /** Address of the peer of the latest attempt; before the first one, the configured address. */
  readonly peer: string;
  /** On the clock of `performance.now()`. */
  readonly startedAtMs: number;
  /** Attempts that have begun, hedges included; transparent retries are not counted (gRFC A6). */
  readonly attempts: number;
  /** Why there were further attempts, in their order. */
  readonly furtherAttempts: readonly FurtherAttemptReason[];
  /** Bytes of bodies, over all attempts. */
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** What the call failed with. Undefined: it has succeeded, or goes on. */
  readonly failure: ConnectError | undefined;
}

export type FurtherAttemptReason = "retry" | "hedge" | "transparent";

/** Receives the record of every call. A failure of an observer is logged and changes no call. */
export interface CallObserver {
  /** The call begins; nothing is sent yet. */
  begin?(record: CallRecord): void;
  /** The call has ended. Runs in the context of the call that it belongs to. */
  end?(record: CallRecord): void;
}
