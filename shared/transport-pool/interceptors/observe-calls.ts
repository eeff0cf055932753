import { AsyncLocalStorage } from "node:async_hooks";
import {
  Code,
  ConnectError,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
} from "@connectrpc/connect";
import type { Logger } from "#shared/logging";
import { callNext } from "#shared/rpc";
import type { CallObserver, CallRecord, FurtherAttemptReason } from "../call/call-record.ts";
import { abortSignalOf } from "../call/lazy-abort-signal.ts";
import { type OutgoingCall, outgoingCallKey } from "../call/outgoing-call.ts";
import type { ServiceConfig } from "../config/service.ts";
import { observeEnd } from "./observe-end.ts";

export interface ObserveCallsOptions {
  readonly config: Pick<ServiceConfig, "name" | "protocol" | "http" | "address">;
  readonly observers: readonly CallObserver[];
  readonly logger: Pick<Logger, "error">;
}

/** Tells the observers of each call, when it begins and when it has ended, streams too. */
export function observeCallsInterceptor({ config, observers, logger }: ObserveCallsOptions): Interceptor {
  const beginning = observers.filter(({ begin }) => begin !== undefined);

  function tell(step: "begin" | "end", record: CallRecord): void {
    for (const observer of step === "begin" ? beginning : observers) {
      try {
        observer[step]?.(record);
      } catch (err) {
        logger.error({ err, peer_service: config.name, method: record.method.name }, "call observer failed");
      }
    }
  }

  function failed(record: OutgoingRecord, req: UnaryRequest | StreamRequest, reason: unknown): void {
    // Connect's own rule: the signal's reason, when that is what has ended the call.
    const end = abortSignalOf(req);
    record.failure = ConnectError.from(end.aborted ? end.reason : reason, Code.Canceled);
    tell("end", record);
  }

  function watched(record: OutgoingRecord, req: StreamRequest, res: StreamResponse): StreamResponse {
    // It ends wherever it is read, and belongs to the call that it is part of.
    const inCall = AsyncLocalStorage.snapshot();
    let hasEnded = false;

    function end(reason?: { readonly failure: unknown }): void {
      if (hasEnded) return;
      hasEnded = true;
      if (reason === undefined) inCall(tell, "end", record);
      else inCall(failed, record, req, reason.failure);
    }

    // The signal also fires after a stream has ended without an error. The end is reported by then.
    if (req.signal.aborted) end({ failure: req.signal.reason });
    else req.signal.addEventListener("abort", () => end({ failure: req.signal.reason }), { once: true });
    return { ...res, message: observeEnd(res.message, end, (failure) => end({ failure })) };
  }

  return (next) => (req) => {
    const record = new OutgoingRecord(config, req);
    if (beginning.length > 0) tell("begin", record);
    return callNext(next, req).then(
      (res) => {
        if (res.stream && req.stream) return watched(record, req, res);
        tell("end", record);
        return res;
      },
      (error) => {
        failed(record, req, error);
        throw error;
      },
    );
  };
}

const NONE: readonly FurtherAttemptReason[] = [];

/** Reads the call when it is asked. */
class OutgoingRecord implements CallRecord {
  failure: ConnectError | undefined;
  readonly method: CallRecord["method"];
  readonly startedAtMs: number;
  readonly #config: ObserveCallsOptions["config"];
  readonly #call: OutgoingCall | undefined;

  constructor(config: ObserveCallsOptions["config"], req: UnaryRequest | StreamRequest) {
    this.#config = config;
    this.#call = req.contextValues.get(outgoingCallKey);
    this.method = req.method;
    this.startedAtMs = this.#call?.startedAt ?? performance.now();
  }

  get service(): string {
    return this.#config.name;
  }

  get protocol(): CallRecord["protocol"] {
    return this.#config.protocol;
  }

  get httpVersion(): CallRecord["httpVersion"] {
    return this.#config.http;
  }

  get peer(): string {
    return this.#call?.peer ?? this.#config.address.text;
  }

  get attempts(): number {
    return this.#call?.attempts ?? 0;
  }

  get furtherAttempts(): readonly FurtherAttemptReason[] {
    return this.#call?.furtherAttempts ?? NONE;
  }

  get requestBytes(): number {
    return this.#call?.requestBytes ?? 0;
  }

  get responseBytes(): number {
    return this.#call?.responseBytes ?? 0;
  }
}
