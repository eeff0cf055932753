/** How much is measured. `limitMs`: after this time no further round begins, as on a slow or busy machine. */
export interface Plan {
  /** `windows`: numbers of events in flight. Rounds are short and many, since a confirmation's time depends on the disk. */
  readonly publish: {
    readonly windows: readonly number[];
    readonly rounds: number;
    readonly roundMs: number;
    readonly limitMs: number;
  };
  readonly consume: { readonly rounds: number; readonly events: number; readonly limitMs: number };
  /** `events` is a multiple of the number of keys. */
  readonly relay: { readonly rounds: number; readonly events: number; readonly limitMs: number };
  readonly latency: {
    readonly rounds: number;
    readonly eventsARound: number;
    readonly perSecond: number;
    readonly limitMs: number;
  };
}

/** Some two and a half minutes. */
export const fullPlan: Plan = {
  publish: { windows: [1, 50, 1_000], rounds: 15, roundMs: 400, limitMs: 15_000 },
  consume: { rounds: 5, events: 20_000, limitMs: 50_000 },
  relay: { rounds: 5, events: 40_000, limitMs: 40_000 },
  latency: { rounds: 5, eventsARound: 200, perSecond: 200, limitMs: 15_000 },
};

/** Under a minute, and noisier. */
export const quickPlan: Plan = {
  publish: { windows: [1, 50, 1_000], rounds: 5, roundMs: 250, limitMs: 15_000 },
  consume: { rounds: 2, events: 10_000, limitMs: 50_000 },
  relay: { rounds: 1, events: 20_000, limitMs: 40_000 },
  latency: { rounds: 2, eventsARound: 200, perSecond: 200, limitMs: 15_000 },
};
