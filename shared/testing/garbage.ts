import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");

/** Runs a full garbage collection, for tests of retained memory. */
export const collectGarbage = runInNewContext("gc") as () => void;
