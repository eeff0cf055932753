import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");

/** Collects all of it, now: for tests of what memory is held. */
export const collectGarbage = runInNewContext("gc") as () => void;
