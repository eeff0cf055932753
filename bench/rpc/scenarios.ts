/** What is called, and how many calls at once. */
export interface Scenario {
  readonly kind: "small" | "10k" | "stream";
  readonly inFlight: number;
  /** What is counted and timed: calls, or the messages of streams. */
  readonly unit: "call" | "message";
}

/** By the name that `--scenario` takes. "10k" is the size of the answer: requests are small everywhere. */
export const scenarios = {
  "unary-small-1": { kind: "small", inFlight: 1, unit: "call" },
  "unary-small-64": { kind: "small", inFlight: 64, unit: "call" },
  "unary-10k-1": { kind: "10k", inFlight: 1, unit: "call" },
  "unary-10k-64": { kind: "10k", inFlight: 64, unit: "call" },
  "stream-1": { kind: "stream", inFlight: 1, unit: "message" },
  "stream-64": { kind: "stream", inFlight: 64, unit: "message" },
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof scenarios;

export const scenarioNames = Object.keys(scenarios) as ScenarioName[];
