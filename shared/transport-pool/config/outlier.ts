import { z } from "zod";
import { duration, section } from "#shared/config";

const percent = z.int().min(0).max(100);

/** Ejects peers whose share of successes is far below the others'. */
const successRateSection = section({
  /** How far, in thousandths of the standard deviation below the mean. */
  stdev_factor: z.int().min(0).default(1900),
  /** The chance that a peer found so is ejected; 0 turns this rule off. */
  enforcement_percent: percent.default(100),
  /** With fewer peers that have the volume, nobody is judged. */
  min_hosts: z.int().min(0).default(5),
  /** Calls in an interval; a peer with fewer is not judged. */
  request_volume: z.int().min(1).default(100),
});

/** Ejects peers of whose calls more than a share fails, however the others do. */
const failurePercentageSection = section({
  /** A peer goes when more than this fails. */
  threshold: percent.default(85),
  /** The chance that a peer found so is ejected; 0 turns this rule off. */
  enforcement_percent: percent.default(100),
  /** With fewer peers that have the volume, nobody is judged. */
  min_hosts: z.int().min(0).default(5),
  /** Calls in an interval; a peer with fewer is not judged. */
  request_volume: z.int().min(1).default(50),
});

/** When a peer that fails more than the others gets no calls for a while. Keys and defaults are gRFC A50's. */
export const outlierSection = section({
  enabled: z.boolean().default(true),
  /** Between two looks at the counters. */
  interval: duration("10s", { min: "1ms" }),
  /** How long the first ejection lasts; the nth in close succession lasts n times as long. */
  base_ejection_time: duration("30s", { min: "1ms" }),
  /** How long an ejection lasts at the most; `base_ejection_time`, if that is longer. */
  max_ejection_time: duration("300s", { min: "1ms" }),
  /** No more are ejected once this share of the peers is; one always may be. */
  max_ejection_percent: percent.default(10),
  success_rate: successRateSection.prefault({}),
  failure_percentage: failurePercentageSection.prefault({}),
});

export type OutlierConfig = z.output<typeof outlierSection>;
