import type { Endpoint } from "../addresses/endpoint.ts";

/**
 * Takes what a registry lists now, all of it; an address may come twice.
 *
 * @param why for an empty list: the reason, when it is worth telling
 */
export type Found = (endpoints: readonly Endpoint[], why?: Error) => void;

/** What a scheme brings to `createFollowingResolver`, which sees to failures, pauses and memory. */
export interface Source {
  /**
   * Tells what there is, and what becomes of it for as long as the registry says so by itself. Resolves when it is time for
   * another look, rejects when the registry cannot be asked or is lost. Ends soon after the signal fires, either way.
   */
  follow(found: Found, signal: AbortSignal): Promise<void>;
  /** From the end of one look to the next one, in milliseconds. 0 for what is told of changes. */
  readonly pauseMs: number;
}
