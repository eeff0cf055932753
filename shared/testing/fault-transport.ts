import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";

/** What goes wrong with a share of the calls: a delay, an error, silence, or a delay before one of them. */
export interface Fault {
  /** Only calls of this service, by its full name (`user.v1.UserService`). */
  readonly service?: string;
  /** Only calls of this method, by its full name (`user.v1.UserService/GetUser`). */
  readonly method?: string;
  /** How many of those calls, from 0 to 1. */
  readonly share: number;
  /** How long they wait. */
  readonly delayMs?: number;
  /** How they then fail. */
  readonly code?: Code;
  /** Whether they then are never answered, until their signal or their deadline ends them. */
  readonly drop?: boolean;
  /**
   * Only streams, once so many messages have been read. Default 0: before the answer, and the call is not sent at all
   * when it fails.
   */
  readonly afterMessages?: number;
}

export interface FaultTransportOptions {
  /** Each is drawn for itself, and those that a call has drawn come one after the other. */
  readonly faults: readonly Fault[];
  /** Gives numbers from 0 up to 1. Default Math.random. */
  readonly random?: () => number;
  /** Default performance.now. */
  readonly now?: () => number;
}

/**
 * Calls through `inner`, some of which go wrong. Of deadlines it knows the one that is given with a call; one that
 * `inner` has by default begins when the call is sent on.
 *
 * @throws TypeError for a fault that cannot be
 */
export function faultTransport(inner: Transport, options: FaultTransportOptions): Transport {
  const { faults, random = Math.random, now = () => performance.now() } = options;
  for (const fault of faults) check(fault);
  const draw = (method: DescMethod): Fault[] =>
    faults.filter((fault) => concerns(fault, method) && random() < fault.share);

  return {
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      const bounds = boundsOf(signal, timeoutMs, now);
      for (const fault of draw(method)) await strike(fault, bounds);
      return inner.unary(method, signal, bounds.leftMs(), header, input, contextValues);
    },

    async stream(method, signal, timeoutMs, header, input, contextValues) {
      const bounds = boundsOf(signal, timeoutMs, now);
      const drawn = draw(method);
      for (const fault of drawn) if (!isLate(fault)) await strike(fault, bounds);
      const late = drawn.filter(isLate);
      if (late.length === 0) return inner.stream(method, signal, bounds.leftMs(), header, input, contextValues);
      const failed = new AbortController();
      const either = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
      const response = await inner.stream(method, either, bounds.leftMs(), header, input, contextValues);
      return { ...response, message: interrupted(response.message, late, bounds, failed) };
    },
  };
}

function check({ share, delayMs, code, drop, afterMessages = 0 }: Fault): void {
  if (!(share >= 0 && share <= 1)) throw new TypeError(`the share of a fault is from 0 to 1, not ${share}`);
  if (delayMs === undefined && code === undefined && drop !== true) throw new TypeError("a fault has to do something");
  if (code !== undefined && drop === true) throw new TypeError("a call that is dropped cannot also fail with a code");
  if (!Number.isInteger(afterMessages) || afterMessages < 0) throw new TypeError("afterMessages is a whole number");
}

function concerns(fault: Fault, method: DescMethod): boolean {
  const service = method.parent.typeName;
  if (fault.service !== undefined && fault.service !== service) return false;
  if (fault.method !== undefined && fault.method !== `${service}/${method.name}`) return false;
  return method.methodKind !== "unary" || !isLate(fault);
}

function isLate({ afterMessages = 0 }: Fault): boolean {
  return afterMessages > 0;
}

/** Deadline and cancellation of a call. */
interface Bounds {
  /** Throws a ConnectError when the call ends before that. */
  wait(ms: number): Promise<void>;
  /** The timeout for the rest of the call, as a transport takes it. */
  leftMs(): number | undefined;
}

function boundsOf(signal: AbortSignal | undefined, timeoutMs: number | undefined, now: () => number): Bounds {
  // As Connect has it, a timeout of 0 or less is none.
  const hasDeadline = timeoutMs !== undefined && timeoutMs > 0;
  const deadline = hasDeadline ? now() + timeoutMs : Number.POSITIVE_INFINITY;
  return {
    wait: (ms) =>
      new Promise((resolve, reject) => {
        const leftMs = deadline - now();
        const onAbort = () => settle(() => reject(ConnectError.from(signal?.reason, Code.Canceled)));
        const onTime = () =>
          settle(
            ms < leftMs ? resolve : () => reject(new ConnectError("the call took too long", Code.DeadlineExceeded)),
          );
        const soonest = Math.min(ms, leftMs);
        // Without an end of its own, a dropped call needs no timer.
        const timer = soonest === Number.POSITIVE_INFINITY ? undefined : setTimeout(onTime, Math.max(soonest, 0));
        function settle(how: () => void): void {
          clearTimeout(timer);
          signal?.removeEventListener("abort", onAbort);
          how();
        }
        if (signal?.aborted) onAbort();
        else signal?.addEventListener("abort", onAbort);
      }),
    leftMs: () => (hasDeadline ? Math.max(Math.ceil(deadline - now()), 1) : timeoutMs),
  };
}

async function strike({ delayMs, code, drop }: Fault, bounds: Bounds): Promise<void> {
  if (delayMs !== undefined) await bounds.wait(delayMs);
  if (drop === true) await bounds.wait(Number.POSITIVE_INFINITY);
  if (code !== undefined) throw new ConnectError("an injected fault", code);
}

async function* interrupted<T>(
  messages: AsyncIterable<T>,
  faults: readonly Fault[],
  bounds: Bounds,
  failed: AbortController,
): AsyncGenerator<T> {
  let read = 0;
  for await (const message of messages) {
    yield message;
    read++;
    for (const fault of faults) {
      if (fault.afterMessages !== read) continue;
      try {
        await strike(fault, bounds);
      } catch (error) {
        // Ends the stream at the peer: it is not read any more.
        failed.abort(error);
        throw error;
      }
    }
  }
}
