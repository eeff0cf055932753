import { AsyncLocalStorage } from "node:async_hooks";
import { watchItems } from "#shared/rpc";
import type { Trace } from "./trace.ts";

/** What an incoming call hands to the work that it causes: outgoing calls, events, log lines. */
export interface CallContext {
  /** Fully qualified, such as `user.v1.UserService/GetUser`; a job names itself here. */
  readonly method: string;
  /** One id for the whole chain of calls, from the first that had none. */
  readonly requestId: string;
  readonly trace: Trace;
  /** The service that called, by its own word: for logs and quotas, no proof of who it is. */
  readonly caller?: string;
  /**
   * The call is a repeat, or some call before it in the chain was. What it causes is then not repeated on failure: when
   * the end of a chain fails, the attempts of each service would multiply those of the one before it. It is enough that
   * the first which repeats does so. (Kitex stops the retries of a chain in the same way.)
   */
  readonly isRetried?: true;
  /** When the answer is worthless, on the clock of `performance.now()`; undefined when the caller waits for ever. */
  readonly deadlineMs?: number;
  /** Aborts when the caller is gone, the deadline has passed, or the server ends the call. */
  readonly signal: AbortSignal;
}

/** Marks the work of a transaction on an embedded database, within a call or outside of one. */
class EmbeddedTransaction {
  readonly call: CallContext | undefined;
  /** Shared by all contexts of the transaction. Work that it has started may outlive it. */
  readonly state: { isOpen: boolean };

  constructor(call: CallContext | undefined, state = { isOpen: true }) {
    this.call = call;
    this.state = state;
  }
}

const storage = new AsyncLocalStorage<CallContext | EmbeddedTransaction>();

/** The call that the running code works for; undefined outside of one. */
export function currentCall(): CallContext | undefined {
  const store = storage.getStore();
  return store instanceof EmbeddedTransaction ? store.call : store;
}

/**
 * Runs the work of a transaction that holds the only session of an embedded database. Until it ends, a call to a peer that
 * needs the same database cannot be answered.
 */
export async function runInEmbeddedTransaction<T>(work: () => Promise<T>): Promise<T> {
  const transaction = new EmbeddedTransaction(currentCall());
  try {
    return await storage.run(transaction, work);
  } finally {
    transaction.state.isOpen = false;
  }
}

/** Whether the running code is part of an open transaction on an embedded database. */
export function isInEmbeddedTransaction(): boolean {
  const store = storage.getStore();
  return store instanceof EmbeddedTransaction && store.state.isOpen;
}

/** Runs `work`, and all that it starts, as part of the call. Inside an embedded transaction it stays part of that, too. */
export function runInCall<Arguments extends unknown[], T>(
  call: CallContext,
  work: (...args: Arguments) => T,
  ...args: Arguments
): T {
  const store = storage.getStore();
  const inner = store instanceof EmbeddedTransaction ? new EmbeddedTransaction(call, store.state) : call;
  return storage.run(inner, work, ...args);
}

/**
 * Runs `work` freed from the current call's deadline and cancellation, keeping its trace, request id and caller: for
 * what must finish though the caller has left. Bounding it is then the work's own business.
 */
export function detached<T>(work: () => T): T {
  const store = storage.getStore();
  const call = currentCall();
  if (call === undefined) return work();
  const { deadlineMs: _, ...rest } = call;
  const detachedCall = { ...rest, signal: new AbortController().signal };
  const inner =
    store instanceof EmbeddedTransaction ? new EmbeddedTransaction(detachedCall, store.state) : detachedCall;
  return storage.run(inner, work);
}

/** Milliseconds until the call's deadline, at least 0; Infinity without one. */
export function remainingMs(call: CallContext): number {
  return call.deadlineMs === undefined ? Number.POSITIVE_INFINITY : Math.max(0, call.deadlineMs - performance.now());
}

/**
 * The same items, each asked for as part of the call: a generator's body runs in the context of whoever pulls, which
 * for a streaming handler is the transport.
 */
export function iterateInCall<T>(call: CallContext, items: AsyncIterable<T>): AsyncIterable<T> {
  // A snapshot is entered for less than `run`, which copies the context each time.
  const inCall = storage.run(call, () => AsyncLocalStorage.snapshot());
  return watchItems(items, { around: (step) => inCall(step) });
}
