/**
 * - `registering`: on its way, or the registry is lost and it will be tried again;
 * - `registered`: listed, as far as the last renewal tells;
 * - `withdrawn`: stopped, or not started yet.
 */
export type RegistrationState = "registering" | "registered" | "withdrawn";

/** Lists this instance in a registry for as long as it runs. */
export interface Registration {
  /** Begins, once. Never blocks and never fails: a registry that is down is tried again until `stop`. */
  start(): void;
  /**
   * Withdraws the instance. Takes 3 seconds at most, and ends at once when the signal fires; what could not be withdrawn
   * lapses with its ttl. Never rejects. It cannot be started again.
   */
  stop(signal?: AbortSignal): Promise<void>;
  state(): RegistrationState;
}

/** How a registry lists an instance. Each step rejects when the registry cannot be asked, or the signal fires. */
export interface Listing {
  /** Lists it anew, whatever there was before. */
  register(signal: AbortSignal): Promise<void>;
  /** Answers false when it has to be registered again. */
  renew(signal: AbortSignal): Promise<boolean>;
  /** After a `register`, even one that has failed: its request may have arrived. */
  withdraw(signal: AbortSignal): Promise<void>;
}
