import { randomHex } from "./random-bytes.ts";

/** Where a call stands in a distributed trace, as W3C Trace Context names it. */
export interface Trace {
  /** 32 lower-case hex digits, the same along the whole chain of calls. */
  readonly traceId: string;
  /** 16 lower-case hex digits: this step. */
  readonly spanId: string;
  /** The step that caused this one, when there is one. */
  readonly parentSpanId?: string;
  /** Trace flags; bit 0 says that the trace is recorded. */
  readonly flags: number;
  /** Other vendors' state, handed on as it came. */
  readonly state?: string;
}

const traceparentPattern = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/;
/** Up to the flags; what may follow belongs to later versions. */
const TRACEPARENT_LENGTH = 55;
const NO_TRACE = "0".repeat(32);
const NO_SPAN = "0".repeat(16);

/**
 * The step that a `traceparent` header causes; undefined when the header is missing or breaks the rules of
 * https://www.w3.org/TR/trace-context/ (a later version with more fields is read as far as it is known).
 */
export function continueTrace(traceparent: string | null, tracestate: string | null): Trace | undefined {
  if (traceparent === null || !traceparentPattern.test(traceparent)) return undefined;
  const version = traceparent.slice(0, 2);
  if (version === "ff" || (version === "00" && traceparent.length > TRACEPARENT_LENGTH)) return undefined;
  const traceId = traceparent.slice(3, 35);
  const parentSpanId = traceparent.slice(36, 52);
  if (traceId === NO_TRACE || parentSpanId === NO_SPAN) return undefined;
  const flags = Number.parseInt(traceparent.slice(53, TRACEPARENT_LENGTH), 16);
  const state = tracestate === null || tracestate.length > 512 ? undefined : tracestate;
  return new CausedStep(traceId, parentSpanId, flags, state);
}

class CausedStep implements Trace {
  readonly traceId: string;
  readonly spanId = randomId(8);
  readonly parentSpanId: string;
  readonly flags: number;
  declare readonly state?: string;

  constructor(traceId: string, parentSpanId: string, flags: number, state: string | undefined) {
    this.traceId = traceId;
    this.parentSpanId = parentSpanId;
    this.flags = flags;
    if (state !== undefined) this.state = state;
  }
}

/** A trace that begins here, recorded. */
export function startTrace(): Trace {
  return { traceId: randomId(16), spanId: randomId(8), flags: 1 };
}

/** The header that makes the receiver's step a child of this one. */
export function formatTraceparent(trace: Trace): string {
  return `00-${trace.traceId}-${trace.spanId}-${(trace.flags & 0xff).toString(16).padStart(2, "0")}`;
}

function randomId(length: number): string {
  const hex = randomHex(length);
  return hex.startsWith("0000") && /^0+$/.test(hex) ? randomId(length) : hex;
}
