/** Cases that do not pass, as the runner's patterns. */
export interface Exceptions {
  /** Fail in each run. A case that passes fails the run, so that a repaired one leaves this list. */
  readonly failing?: readonly string[];
  /** Fail in some runs. */
  readonly flaky?: readonly string[];
}

export const exceptions = {
  "fast path": {},
  fallback: {},
  // The reference server ends a call with UNAVAILABLE when it reads after the cancelled connection is closed.
  client: { flaky: ["Client Cancellation/HTTPVersion:1/**/cancel-after-close-send"] },
} satisfies Record<string, Exceptions>;
