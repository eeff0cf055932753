import type { DescMethod } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextKey,
  type ContextValues,
  createContextValues,
  type Transport,
} from "@connectrpc/connect";
import {
  beginCall,
  type CallContext,
  contextHeaderPairs,
  currentCall,
  isInEmbeddedTransaction,
  remainingMs,
  runInCall,
  writeContextHeaders,
} from "#shared/call-context";
import { DomainError } from "#shared/errors";
import { outgoingTimeoutMs } from "./deadline.ts";
import type { MethodPolicy } from "./method-policy.ts";
import { type OutgoingCall, outgoingCallKey } from "./outgoing-call.ts";
import { sendablePairs } from "./plain-headers.ts";

export interface InheritCallOptions {
  /** This service's name, for `x-caller`. */
  readonly caller: string;
  readonly policyOf: (method: DescMethod) => MethodPolicy;
}

/**
 * Makes every outgoing call part of the incoming one that it works for: its deadline, its cancellation, and its trace,
 * request id and caller as headers. Outside of an incoming call, each outgoing one begins a trace of its own. From here
 * on the call has its policy, see `outgoingCallKey`.
 *
 * A call without time left fails with DEADLINE_EXCEEDED before anything is sent. A call inside a transaction on an
 * embedded database fails with EMBEDDED_TRANSACTION_BUSY: a peer in the same process could not answer it.
 */
export function inheritCall(inner: Transport, { caller, policyOf }: InheritCallOptions): Transport {
  return {
    unary(method, signal, timeoutMs, header, input, contextValues) {
      if (isInEmbeddedTransaction()) return Promise.reject(transactionBusy());
      const policy = policyOf(method);
      const out = outgoingCall({ signal, timeoutMs, header, contextValues }, policy, policy.timeoutMs, caller);
      const send = () => inner.unary(method, out.signal, out.timeoutMs, out.header, input, out.contextValues);
      return out.isNew ? runInCall(out.call, send) : send();
    },
    stream(method, signal, timeoutMs, header, input, contextValues) {
      if (isInEmbeddedTransaction()) return Promise.reject(transactionBusy());
      const out = outgoingCall({ signal, timeoutMs, header, contextValues }, policyOf(method), undefined, caller);
      const response = runInCall(out.call, () =>
        inner.stream(method, out.signal, out.timeoutMs, out.header, input, out.contextValues),
      );
      // A client looks at this promise when the answer is first asked for. If that is late or never, its failure (which
      // is in the log) must not end the process as an unhandled rejection.
      response.catch(() => {});
      return response;
    },
  };
}

function transactionBusy(): DomainError {
  return new DomainError(
    "failed_precondition",
    "EMBEDDED_TRANSACTION_BUSY",
    "a call to a peer inside a transaction would stall all services that share the embedded database: make the call before " +
      "the transaction, in an event handler in its `prepare` step",
  );
}

interface OwnOptions {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
  readonly header: ConstructorParameters<typeof Headers>[0];
  readonly contextValues: ContextValues | undefined;
}

function outgoingCall(own: OwnOptions, policy: MethodPolicy, defaultMs: number | undefined, caller: string) {
  const incoming = currentCall();
  const call = incoming ?? beginCall(caller);
  const header = headersOf(own.header, call, caller);
  const timeoutMs = outgoingTimeoutMs({ explicitMs: own.timeoutMs, defaultMs, remainingMs: remainingMs(call) });
  // The interceptors see a call that comes too late, so that its line is in the log; the innermost one ends it.
  const signal = timeoutMs === 0 ? AbortSignal.abort(tooLate()) : linkSignals(own.signal, incoming?.signal);
  const startedAt = performance.now();
  const deadlineMs = timeoutMs === undefined ? undefined : startedAt + timeoutMs;
  const outgoing = new BegunOutgoingCall(policy, startedAt, deadlineMs);
  const contextValues = new OutgoingValues(own.contextValues, outgoing);
  return { call, isNew: incoming === undefined, header, timeoutMs, signal, contextValues };
}

function headersOf(own: OwnOptions["header"], call: CallContext, caller: string) {
  if (own === undefined) return contextHeaderPairs(call, caller);
  const pairs = sendablePairs(own);
  if (pairs !== undefined) return [...pairs, ...contextHeaderPairs(call, caller)];
  const header = new Headers(own);
  writeContextHeaders(header, call, caller);
  return header;
}

/** Not a literal: V8 would soon allocate it, which lives as long as its call, among what lives for ever. */
class BegunOutgoingCall implements OutgoingCall {
  readonly policy: MethodPolicy;
  readonly startedAt: number;
  readonly deadlineMs: number | undefined;
  attempts = 0;
  requestBytes = 0;
  responseBytes = 0;
  declare furtherAttempts?: ("retry" | "hedge" | "transparent")[];
  readonly tried = new Set<string>();
  declare peer?: string;
  onPick: (() => void) | undefined;
  onUnpick: (() => void) | undefined;

  constructor(policy: MethodPolicy, startedAt: number, deadlineMs: number | undefined) {
    this.policy = policy;
    this.startedAt = startedAt;
    this.deadlineMs = deadlineMs;
  }
}

/** The user's values, who may give the same ones to several calls, and beside them what belongs to this one. */
class OutgoingValues implements ContextValues {
  #own: ContextValues | undefined;
  readonly #call: OutgoingCall;

  constructor(own: ContextValues | undefined, call: OutgoingCall) {
    this.#own = own;
    this.#call = call;
  }

  get<T>(key: ContextKey<T>): T {
    if (key.id === outgoingCallKey.id) return this.#call as T;
    return this.#own === undefined ? key.defaultValue : this.#own.get(key);
  }

  set<T>(key: ContextKey<T>, value: T): this {
    this.#own ??= createContextValues();
    this.#own.set(key, value);
    return this;
  }

  delete(key: ContextKey<unknown>): this {
    this.#own?.delete(key);
    return this;
  }
}

function linkSignals(own: AbortSignal | undefined, incoming: AbortSignal | undefined): AbortSignal | undefined {
  return own !== undefined && incoming !== undefined && own !== incoming
    ? AbortSignal.any([own, incoming])
    : (own ?? incoming);
}

function tooLate(): ConnectError {
  return new ConnectError("the deadline has passed before the call was sent", Code.DeadlineExceeded);
}
