import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openLine, type SideMemory } from "../../../bench/rpc/line.ts";
import type { VariantName } from "../../../bench/rpc/variants.ts";

// A service runs for months: whatever a call leaves behind is too much. Server and client are processes of their own, with
// every policy on. The more calls, the less of a leak is seen: the full length is what tells.

/** With FULL_FAULTS=1, a million of them over HTTP/2. */
const isFull = process.env["FULL_FAULTS"] === "1";
const CALLS: Partial<Record<VariantName, number>> = {
  meridian: isFull ? 1_000_000 : 60_000,
  "meridian-connect-h1": isFull ? 100_000 : 30_000,
  "meridian-gateway": isFull ? 100_000 : 30_000,
};

/** Enough for code, caches and pools to be what they will be. */
const WARM_UP_CALLS = 20_000;
/** V8's own: code that is compiled again, feedback of rare paths. It is 2 bytes for each of a million calls, 70 of 30,000. */
const SLACK_BYTES = 2 * 1024 * 1024;

describe("what does not grow with the number of calls", () => {
  for (const [name, calls] of Object.entries(CALLS)) {
    test(`heap and handles, after ${calls} calls by ${name}`, { timeout: 900_000 }, async () => {
      const line = await openLine({
        variant: name as VariantName,
        scenario: "unary-small-64",
        execArgvOf: () => [],
      });
      try {
        await line.run({ calls: WARM_UP_CALLS });
        const before = await line.memory();
        await line.run({ calls });
        const after = await line.memory();
        for (const side of Object.keys(before) as (keyof SideMemory)[]) {
          const [early, late] = [before[side], after[side]];
          assert.ok(early !== undefined && late !== undefined);
          const grownBytes = late.heapBytes - early.heapBytes;
          assert.ok(grownBytes < SLACK_BYTES, `${side}: ${grownBytes} bytes`);
          assert.ok(late.handles <= early.handles, `${side}: ${early.handles} handles, then ${late.handles}`);
        }
      } finally {
        await line.end();
      }
    });
  }
});
