import { seededRandom } from "#shared/testing";
import type { Version } from "./orders.ts";

/** One of the processes: the first two consume, the last places orders. All relay. */
export type Slot = 0 | 1 | 2;

export type Fault =
  | { readonly kind: "end process"; readonly slot: Slot; readonly signal: "SIGKILL" | "SIGTERM" }
  /** Ends the process in order, and starts one of this version in its place. */
  | { readonly kind: "deploy"; readonly slot: Slot; readonly version: Version }
  | { readonly kind: "restart broker"; readonly signal: "SIGKILL" | "SIGTERM" }
  | { readonly kind: "cut link"; readonly slot: Slot; readonly to: "broker" | "database" }
  | { readonly kind: "stall link"; readonly slot: Slot; readonly to: "broker" | "database"; readonly forMs: number }
  | { readonly kind: "terminate sessions" };

export interface Step {
  /** Since the start. */
  readonly atMs: number;
  readonly fault: Fault;
}

/**
 * What a schedule may do: in an `ordered` one nothing makes a handler's attempt fail, and all replicas have all handlers,
 * since an event that is tried again is overtaken.
 */
export type Variant = "ordered" | "unordered";

/** A broker that is killed within a second of a queue's declaration forgets the queue: see `PrivateBroker.kill`. */
const START_MS = 1_000;
const DURATION_MS = 6_000;
const SLOTS: readonly Slot[] = [0, 1, 2];

export function variantOf(seed: number): Variant {
  return seed % 2 === 0 ? "ordered" : "unordered";
}

/** Of one seed always the same steps, in their order. */
export function createSchedule(seed: number): readonly Step[] {
  const variant = variantOf(seed);
  const random = seededRandom(seed);
  const oneOf = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
  const signal = () => oneOf(["SIGKILL", "SIGKILL", "SIGTERM"] as const);
  /** In an ordered schedule the database stays within reach of handlers. */
  function link(): { readonly slot: Slot; readonly to: "broker" | "database" } {
    const to = oneOf(["broker", "database"] as const);
    return { slot: variant === "ordered" && to === "database" ? 2 : oneOf(SLOTS), to };
  }
  const faults: Fault[] = [
    { kind: "restart broker", signal: signal() },
    ...times(3, () => ({ kind: "end process", slot: oneOf(SLOTS), signal: signal() }) as const),
    ...times(3, () => ({ kind: "cut link", ...link() }) as const),
    ...times(2, () => ({ kind: "stall link", ...link(), forMs: Math.round(200 + random() * 800) }) as const),
  ];
  if (variant === "unordered") {
    const version = () => oneOf(["first", "second"] as const);
    faults.push(
      ...times(2, () => ({ kind: "deploy", slot: oneOf([0, 1] as const), version: version() }) as const),
      ...times(2, () => ({ kind: "terminate sessions" }) as const),
    );
  }
  return faults
    .map((fault) => ({ atMs: Math.round(START_MS + random() * DURATION_MS), fault }))
    .toSorted((one, other) => one.atMs - other.atMs);
}

function times<T>(count: number, create: () => T): T[] {
  return Array.from({ length: count }, create);
}
