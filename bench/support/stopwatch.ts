/** What a number of like operations took. */
export interface Measurement {
  readonly perSecond: number;
  /** User and system time of this process, for one operation. */
  readonly cpuMicros: number;
}

/** Starts at once; `stop` says what so many operations took since. */
export function startStopwatch(): { stop(operations: number): Measurement } {
  const start = performance.now();
  const cpuStart = process.cpuUsage();
  return {
    stop(operations) {
      const seconds = (performance.now() - start) / 1_000;
      const { user, system } = process.cpuUsage(cpuStart);
      return { perSecond: operations / seconds, cpuMicros: (user + system) / operations };
    },
  };
}
