import type { Env } from "./setup.ts";

/** The command was called wrongly: the message says what is wrong. */
export class UsageError extends Error {}

/** The options of all commands. */
export interface Given {
  readonly queue?: string;
  readonly id?: string;
  readonly limit?: number;
  readonly all?: boolean;
  readonly service?: string;
  readonly url?: string;
  readonly state?: string;
  readonly after?: string;
  readonly reason?: string;
}

export interface Answer {
  /** For people. */
  readonly text: string;
  /** For programs. */
  readonly data: unknown;
  /** Why not all of it was done. */
  readonly failure?: unknown;
}

export interface Command {
  /** Those that it takes. */
  readonly options: readonly (keyof Given)[];
  /** @throws UsageError before anything is done */
  readonly run: (given: Given, env: Env) => Promise<Answer>;
}
