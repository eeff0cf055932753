import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { toEntries } from "./entries.ts";
import { measuredVariant, round, smallUnary } from "./test-support.ts";

const MIB = 1024 * 1024;
const entryOf = (entries: ReturnType<typeof toEntries>, name: string, side: string) =>
  entries.find((entry) => entry.name === `unary-small-64: ${name}` && entry.side === side);

describe("the entries of the results", () => {
  test("are medians, with the medians of what stood beside them in the same round", () => {
    // The second round was twice as slow for all.
    const entries = toEntries(
      [
        smallUnary(
          measuredVariant("raw-full", [round(10, 10), round(20, 20), round(10, 10)]),
          measuredVariant("grpc-js-full", [round(20, 40), round(40, 80), round(20, 40)]),
          measuredVariant("meridian", [round(30, 30), round(60, 60), round(30, 30)]),
        ),
      ],
      0,
    );
    assert.deepEqual(entryOf(entries, "meridian: CPU", "server"), {
      name: "unary-small-64: meridian: CPU",
      side: "server",
      value: 30,
      unit: "µs/call",
      ratio_to_grpc_js_full: 1.5,
      ratio_to_raw_full: 3,
    });
    assert.equal(entryOf(entries, "meridian: CPU", "client")?.ratio_to_grpc_js_full, 0.75);
    assert.equal(entryOf(entries, "meridian: CPU", "both")?.ratio_to_grpc_js_full, 1);
    assert.equal(entryOf(entries, "meridian: CPU", "gateway"), undefined);
    assert.equal(entryOf(entries, "meridian: rate", "both")?.unit, "calls/s");
  });

  test("have null for a peer that was not measured", () => {
    const entries = toEntries([smallUnary(measuredVariant("meridian-gateway", [round(30, 30, 70)]))], 0);
    const { value, ratio_to_grpc_js_full, ratio_to_raw_full } = entryOf(entries, "meridian-gateway: CPU", "gateway")!;
    assert.deepEqual(
      { value, ratio_to_grpc_js_full, ratio_to_raw_full },
      { value: 70, ratio_to_grpc_js_full: null, ratio_to_raw_full: null },
    );
  });

  test("have the memory of each side, where it was looked at", () => {
    const memory = (mib: number) => ({ rssBytes: 10 * mib * MIB, heapBytes: mib * MIB, handles: 5 });
    const entries = toEntries(
      [
        smallUnary(
          measuredVariant("raw-full", [round(1, 1)]),
          measuredVariant("grpc-js-full", [round(1, 1)], { server: memory(8), client: memory(10) }),
          measuredVariant("meridian", [round(1, 1)], { server: memory(12), client: memory(15) }),
        ),
      ],
      100_000,
    );
    const { value, unit, ratio_to_grpc_js_full, ratio_to_raw_full } = entryOf(
      entries,
      "meridian: RSS after 100000 calls",
      "server",
    )!;
    assert.deepEqual(
      { value, unit, ratio_to_grpc_js_full, ratio_to_raw_full },
      { value: 120, unit: "MiB", ratio_to_grpc_js_full: 1.5, ratio_to_raw_full: null },
    );
    assert.equal(entryOf(entries, "meridian: heap after 100000 calls", "client")?.value, 15);
  });
});
