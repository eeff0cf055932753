import { Code } from "@connectrpc/connect";
import { z } from "zod";
import { duration, section } from "#shared/config";
import { codesSchema } from "./codes.ts";

/** `hedge` of a service or a method: gRFC A6's hedging policy. */
export const hedgeSection = section({
  /**
   * How long an attempt is waited for before the next is sent beside it; 0 sends all at once. Best a little more than
   * what most calls take: the default is meant for peers in the same data centre.
   */
  delay: duration("50ms"),
  /** Hedges after the first attempt. */
  max: z.int().min(1).max(4).default(1),
  /** Failures that only send the next hedge, at once; any other ends the call. */
  codes: codesSchema.default([Code.Unavailable]),
});

export type HedgeConfig = z.output<typeof hedgeSection>;
