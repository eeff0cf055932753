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

const traceparentPattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/**
 * The step that a `traceparent` header causes; undefined when the header is missing or breaks the rules of
 * https://www.w3.org/TR/trace-context/ (a later version with more fields is read as far as it is known).
 */
export function continueTrace(traceparent: string | null, tracestate: string | null): Trace | undefined {
  const [, version, traceId, spanId, flags, rest] = traceparentPattern.exec(traceparent ?? "") ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return {
    traceId,
    spanId: randomId(8),
    parentSpanId: spanId,
    flags: Number.parseInt(flags, 16),
    ...(tracestate === null || tracestate.length > 512 ? {} : { state: tracestate }),
  };
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
  return /^0+$/.test(hex) ? randomId(length) : hex;
}
