/** Lets one lane alone try a broker that is away. Each lane that tries holds a connection of the service's pool. */
export interface Outage {
  readonly isOn: boolean;
  begin(): void;
  end(): void;
  /**
   * Resolves at once when the broker is there, or when this lane is the one that tries; else at the end of the outage, or
   * when the signal fires.
   */
  enter(lane: object): Promise<void>;
}

/** @param signal ends every wait */
export function createOutage(signal: AbortSignal): Outage {
  let prober: object | undefined;
  let over: PromiseWithResolvers<void> | undefined;
  signal.addEventListener("abort", () => over?.resolve());

  return {
    get isOn() {
      return over !== undefined;
    },
    begin() {
      over ??= Promise.withResolvers();
    },
    end() {
      over?.resolve();
      over = prober = undefined;
    },
    async enter(lane) {
      while (over !== undefined && !signal.aborted) {
        prober ??= lane;
        if (prober === lane) return;
        await over.promise;
      }
    },
  };
}
