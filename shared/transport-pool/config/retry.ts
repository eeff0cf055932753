import { Code } from "@connectrpc/connect";
import { z } from "zod";
import { duration, section } from "#shared/config";
import { codesSchema } from "./codes.ts";

/** gRFC A6 makes no more than five attempts of a call, whatever is configured. */
const MOST_RETRIES = 4;
const MAX_BACKOFF_MS = 1_000;

/**
 * How many retries a service may get in all, for each that goes well: the token bucket of gRFC A6. It belongs to the
 * service and not to a method, since all of its methods put their load on the same peers.
 */
export const throttleSection = section({
  /** The bucket's size, up to 1000. Retries are made while it is more than half full; each failure takes 1. */
  max_tokens: z.number().gt(0).max(1_000).default(500),
  /** What a success gives back. Three decimals count, the others are dropped. */
  token_ratio: z
    .number()
    .gt(0)
    .default(0.1)
    .transform((ratio) => Math.floor(ratio * 1_000 + 1e-6) / 1_000)
    .refine((ratio) => ratio > 0, "must be at least 0.001"),
});

const shape = {
  /** Attempts after the first. More than 4 means 4 (gRFC A6). */
  max: z
    .int()
    .min(1, "at least 1: leave retry out, or write retry: off for a method")
    .transform((max) => Math.min(max, MOST_RETRIES)),
  /** No attempt begins later than this after the call's begin. The call's own deadline ends it in any case. */
  timeout: duration("10s", { min: "1ms" }),
  /** Before the second attempt; each delay is drawn from ± 20 % of it. */
  backoff: duration("100ms", { min: "1ms" }),
  /** By how much the backoff grows from one attempt to the next. */
  multiplier: z.number().min(1).default(1.6),
  /** Where it stops to grow. Default 1s, or `backoff` when that is longer. */
  max_backoff: duration(undefined, { min: "1ms" }).optional(),
  /** Failures after which a call is sent again. */
  codes: codesSchema.default([Code.Unavailable]),
  /** An attempt that has no answer after so long is given up, and the next is made. Default: never. */
  attempt_timeout: duration(undefined, { min: "1ms" }).optional(),
};

/** `retry` of one method. It stands alone: a key that is left out has its default, not the service's value. */
export const methodRetrySection = section(shape).transform(fillMaxBackoff);

/** `retry` of a service: what the original design has, and the rest of gRFC A6's retry policy. */
export const retrySection = section({ ...shape, throttle: throttleSection.prefault({}) }).transform(fillMaxBackoff);

export type RetryConfig = z.output<typeof methodRetrySection>;
export type ThrottleConfig = z.output<typeof throttleSection>;

function fillMaxBackoff<T extends { readonly backoffMs: number; readonly maxBackoffMs?: number }>(
  retry: T,
  context: z.RefinementCtx,
): T & { readonly maxBackoffMs: number } {
  const { backoffMs, maxBackoffMs = Math.max(MAX_BACKOFF_MS, backoffMs) } = retry;
  if (maxBackoffMs < backoffMs) {
    context.addIssue({ code: "custom", path: ["max_backoff"], message: "must not be shorter than backoff" });
  }
  return { ...retry, maxBackoffMs };
}
