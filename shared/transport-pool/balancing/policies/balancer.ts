/** What a balancer knows of a peer that can take a call now. */
export interface Candidate {
  /** `host:port`. */
  readonly address: string;
  /** Its share of the calls beside the others', above 0; 1 when nobody has said. */
  readonly weight: number;
  /** Attempts that are on their way. */
  readonly inFlight: number;
  /** How long its answers take, of late; undefined before the first. See `createLatency`. */
  latencyMs(now: number): number | undefined;
}

export interface PickContext {
  /** What keeps calls together on one peer, for `consistent_hash`; undefined when the call has none. */
  readonly hashKey: string | undefined;
  /** The clock of `performance.now()`. */
  readonly now: number;
  /** Whether the list lacks those that this one call has tried already: it says nothing about them. */
  readonly isPartial?: boolean;
}

/** Chooses where a call goes. */
export interface Balancer {
  /**
   * One of the candidates, of which there is at least one. They are those that are connected, healthy and not ejected;
   * the list is the same object until that changes, unless it is partial.
   */
  pick<C extends Candidate>(candidates: readonly C[], context: PickContext): C;
}
