import { z } from "zod";
import { duration, section } from "#shared/config";

const MAX_OPEN_MS = 60_000;

/** `breaker` of a service or a method. */
export const breakerSection = section({
  enabled: z.boolean().default(true),
  /** It opens when this share of the calls in the window has failed … */
  failure_ratio: z.number().gt(0).max(1).default(0.5),
  /** … and there were at least so many. */
  min_calls: z.int().min(1).default(20),
  window: duration("10s", { min: "10ms" }),
  /** How long no call is made; twice as long after each probe that has failed. */
  open: duration("5s", { min: "1ms" }),
  /** Where that stops to grow. Default 60s, or `open` when that is longer. */
  max_open: duration(undefined, { min: "1ms" }).optional(),
}).transform((breaker, context) => {
  const { openMs, maxOpenMs = Math.max(MAX_OPEN_MS, openMs) } = breaker;
  if (maxOpenMs < openMs) {
    context.addIssue({ code: "custom", path: ["max_open"], message: "must not be shorter than open" });
  }
  return { ...breaker, maxOpenMs };
});

export type BreakerConfig = z.output<typeof breakerSection>;
