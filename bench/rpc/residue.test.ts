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
/** undici's request and the timers and immediates that it makes for each. */
const UNDICI_BYTES = 6_000;
/**
 * By what it sees while a process warms up, V8 may take objects that Node itself makes for each request (streams, lists
 * of listeners) for ones that stay, and put them with the old ones from then on: one start in six, and for as long as
 * that process lives. What is asked here is whether a call can be without.
 */
const MAX_STARTS = 6;

type Residue = Readonly<Record<"server" | "client", number>>;

/** The first of several starts that stays below the limit on both sides; the last one when none does. */
async function residueOf(variant: VariantName, { limit }: { readonly limit: Residue }): Promise<Residue> {
  for (let start = 1; ; start++) {
    const residue = await residueOfStart(variant);
    const isBelow = residue.server < limit.server && residue.client < limit.client;
    if (isBelow || start === MAX_STARTS) return residue;
  }
}

async function residueOfStart(variant: VariantName): Promise<Residue> {
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
  const raw = await residueOfStart("raw");
  const limit = { server: raw.server + OURS_BYTES, client: raw.client + OURS_BYTES };
  assertBelow(limit, await residueOf("meridian", { limit }));
});

test("a call over HTTP/1.1 leaves next to nothing behind in the server, and no more than undici makes of it in the client", async () => {
  const limit = { server: OURS_BYTES, client: UNDICI_BYTES };
  assertBelow(limit, await residueOf("meridian-connect-h1", { limit }));
});

function assertBelow(limit: Residue, residue: Residue): void {
  for (const side of ["server", "client"] as const) {
    assert.ok(residue[side] < limit[side], `${side}: ${residue[side]} bytes, at most ${limit[side]}`);
  }
}
