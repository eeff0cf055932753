import type { Endpoint } from "../addresses/endpoint.ts";

/**
 * Receives the complete current list of a registry; an address may occur twice.
 *
 * @param why reason of an empty list, if it is of use to operators
 */
export type Found = (endpoints: readonly Endpoint[], why?: Error) => void;

/** Look-ups of one address scheme. `createFollowingResolver` adds backoff, pauses and the memory of the last endpoints. */
export interface Source {
  /**
   * Reports the endpoints, and changes for as long as the registry sends them. Resolves when another look-up is due. Rejects
   * when the registry cannot be reached or is lost. Settles soon after the signal fires.
   */
  follow(found: Found, signal: AbortSignal): Promise<void>;
  /** Milliseconds from the end of one look-up to the next. 0 for registries that send changes. */
  readonly pauseMs: number;
}
