import { z } from "zod";

/** Bounds of a duration, themselves written as durations and inclusive. */
export interface DurationLimits {
  /** Default `"0"`. */
  readonly min?: string;
  /** Default: the maximum delay of a Node timer (24.8 days). A longer one would fire at once. */
  readonly max?: string;
}

declare const durationMark: unique symbol;

/** Number of milliseconds. `section` renames its key: `timeout` becomes `timeoutMs`. */
export type DurationMs = number & { readonly [durationMark]: true };

export type DurationSchema = z.ZodPipe<z.ZodType<string | 0, string | 0>, z.ZodTransform<DurationMs, string | 0>>;

const MS_PER_UNIT: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const DURATION = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/;
const DURATION_PART = /(\d+(?:\.\d+)?)(ms|s|m|h)/g;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const EXAMPLES = '"5s", "100ms", "1m" or "1.5h"';

/** Schemas made by `duration`, so that `section` recognises them inside of wrappers. */
const durationInputs = new WeakSet<object>();

/**
 * Creates the schema of a duration: `5s`, `100ms`, `1m`, `1.5h`, `1m30s`. A number without a unit is refused, except 0.
 * The value is in whole milliseconds.
 *
 * @param fallback default of the key; without it the key is required
 */
export function duration(fallback: string, limits?: DurationLimits): z.ZodPrefault<DurationSchema>;
export function duration(fallback?: undefined, limits?: DurationLimits): DurationSchema;
export function duration(
  fallback?: string,
  limits: DurationLimits = {},
): DurationSchema | z.ZodPrefault<DurationSchema> {
  const { min = "0", max } = limits;
  const minMs = knownDuration(min);
  const maxMs = max === undefined ? LONGEST_TIMER_MS : knownDuration(max);
  const input: z.ZodType<string | 0, string | 0> = z.custom<string | 0>(
    (value) => value === 0 || typeof value === "string",
    {
      error: ({ input: value }) =>
        typeof value === "number" ? `a duration needs a unit: write ${EXAMPLES}` : `expected a duration: ${EXAMPLES}`,
    },
  );
  durationInputs.add(input);
  const schema = input.transform((value, context): DurationMs => {
    const ms = parseDuration(value);
    if (typeof ms === "string") context.addIssue({ code: "custom", message: ms });
    else if (ms < minMs) context.addIssue({ code: "custom", message: `a duration of at least ${min} is needed` });
    else if (ms > maxMs)
      context.addIssue({ code: "custom", message: `a duration of at most ${max ?? "596h (24 days)"} is needed` });
    else return ms as DurationMs;
    return z.NEVER;
  });
  if (fallback === undefined) return schema;
  knownDuration(fallback);
  return schema.prefault(fallback);
}

/** Reports whether this schema is a duration, or a duration wrapped by `.optional()`, `.default()`, `.refine()`, `z.array()` … */
export function isDuration(schema: z.core.SomeType): boolean {
  if (durationInputs.has(schema)) return true;
  const { innerType, element, in: input } = schema._zod.def as WrapperDef;
  const inner = innerType ?? element ?? input;
  return inner !== undefined && isDuration(inner);
}

interface WrapperDef extends z.core.$ZodTypeDef {
  readonly innerType?: z.core.SomeType;
  readonly element?: z.core.SomeType;
  readonly in?: z.core.SomeType;
}

/** Parses a duration to milliseconds, or returns the fault. */
function parseDuration(value: string | 0): number | string {
  if (value === 0 || value === "0") return 0;
  if (/^[+-]?\d+(\.\d+)?$/.test(value)) return `a duration needs a unit: write ${EXAMPLES}`;
  if (value.startsWith("-")) return "a duration cannot be negative";
  if (!DURATION.test(value)) return `expected a duration: ${EXAMPLES}`;
  let ms = 0;
  for (const [, amount, unit] of value.matchAll(DURATION_PART)) ms += Number(amount) * (MS_PER_UNIT[unit ?? ""] ?? NaN);
  const whole = Math.round(ms);
  // 1.005 * 1000 is 1004.9999999999999, and that is still 1005 ms.
  return Math.abs(whole - ms) < 1e-6 ? whole : "a duration is a whole number of milliseconds";
}

/** Parses a duration in code. @throws TypeError when it is none */
function knownDuration(text: string): number {
  const ms = parseDuration(text);
  if (typeof ms === "string") throw new TypeError(`duration(${JSON.stringify(text)}): ${ms}`);
  return ms;
}
