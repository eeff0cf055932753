import { randomFillSync } from "node:crypto";
import { v7 } from "uuid";

const BYTES = 16;
// Drawn 4 KiB at a time: a draw of 16 bytes costs as much.
const pool = new Uint8Array(256 * BYTES);
let used = pool.length;

function random(): Uint8Array {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += BYTES;
  return pool.subarray(used - BYTES, used);
}

/** A UUID, version 7: those of one process sort by time, to the millisecond. */
export function createEventId(): string {
  return v7({ rng: random });
}
