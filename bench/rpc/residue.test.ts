import assert from "node:assert/strict";
import { test } from "node:test";
import { openLine } from "./line.ts";
import type { VariantName } from "./variants.ts";

// What V8's frequent collections do not free costs a call twice: it is copied, and it makes the full ones come sooner.
// Node's own streams are among it, for raw HTTP/2 as well. A call must not hang on them, nor on anything else that lives
// longer: with all that belongs to it, it would be five times as much.

/** With enough of them in flight while the code is still being compiled, as after any start under load. */
const WARM_UP_CALLS = 10_000;
const CALLS = 4_000;
const OURS_BYTES = 2_000;

async function residueOf(variant: VariantName) {
  const line = await openLine({ variant, scenario: "unary-small-64", execArgvOf: () => [] });
  try {
    await line.run({ calls: WARM_UP_CALLS });
    // A full collection in the middle of one would hide what there is.
    const [first, ...others] = [await line.residue(CALLS), await line.residue(CALLS), await line.residue(CALLS)];
    const most = (side: "server" | "client") => Math.max(first[side], ...others.map((one) => one[side]));
    return { server: most("server"), client: most("client") };
  } finally {
    await line.end();
  }
}

test("a call leaves little more behind than one of raw HTTP/2", async () => {
  const raw = await residueOf("raw");
  const ours = await residueOf("meridian");
  for (const side of ["server", "client"] as const) {
    assert.ok(ours[side] < raw[side] + OURS_BYTES, `${side}: ${ours[side]} bytes, raw: ${raw[side]}`);
  }
});

test("a call over HTTP/1.1 leaves next to nothing behind", async () => {
  const ours = await residueOf("meridian-connect-h1");
  for (const side of ["server", "client"] as const) assert.ok(ours[side] < OURS_BYTES, `${side}: ${ours[side]} bytes`);
});
