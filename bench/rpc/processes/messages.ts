import type { ScenarioName } from "../scenarios.ts";
import type { VariantName } from "../variants.ts";

export type Role = "server" | "gateway" | "client";

/** What a process can be asked for, and what it answers. */
export interface Asks {
  /** `port` is the one to call; a server needs none. Answers the port that is listened on, 0 for a client. */
  readonly start: { readonly ask: { readonly variant: VariantName; readonly port: number }; readonly answer: number };
  /** Clients only. */
  readonly load: { readonly ask: { readonly scenario: ScenarioName; readonly limit: Limit }; readonly answer: Load };
  /** User and system time so far, in microseconds. */
  readonly cpu: { readonly ask: object; readonly answer: number };
  readonly memory: { readonly ask: object; readonly answer: Memory };
  /** Bytes of the heap after a collection. */
  readonly heap: { readonly ask: { readonly collect: "all" | "young" }; readonly answer: number };
}

export type Limit = { readonly ms: number } | { readonly calls: number };

/** What a client made of its load. */
export interface Load {
  readonly calls: number;
  /** Calls, or the messages of streams. */
  readonly operations: number;
  readonly perSecond: number;
  /** User and system time of the client, for one operation. */
  readonly cpuMicros: number;
  /** Of a call, in milliseconds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface Memory {
  /** As the kernel has it. */
  readonly rssBytes: number;
  /** What is left of the heap after a collection. */
  readonly heapBytes: number;
  /** What keeps the process alive, such as sockets and timers. */
  readonly handles: number;
}

export interface Question {
  readonly id: number;
  readonly kind: keyof Asks;
  readonly ask: unknown;
}

export type Reply = { readonly id: number } & ({ readonly answer: unknown } | { readonly error: string });
