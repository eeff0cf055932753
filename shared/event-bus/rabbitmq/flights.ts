/** What ends at a time of `performance.now()`, or with a signal, unless it is removed before. */
export interface Flight {
  readonly expiresAt: number;
  readonly signal: AbortSignal | undefined;
}

/** Flights with one timer, and one listener on each signal: for each message they would cost as much as its encoding. */
export interface Flights<F extends Flight> {
  readonly size: number;
  has(flight: F): boolean;
  add(flight: F): void;
  /** @returns false when it was removed before */
  remove(flight: F): boolean;
}

/** @param onExpired removes the flight, as does `onAborted` */
export function createFlights<F extends Flight>(
  onExpired: (flight: F) => void,
  onAborted: (flight: F) => void,
): Flights<F> {
  const flights = new Set<F>();
  /** Number of flights that a signal ends. */
  const bySignal = new Map<AbortSignal, number>();
  let timer: NodeJS.Timeout | undefined;
  let wakesAt = Number.POSITIVE_INFINITY;

  function wakeAt(time: number): void {
    clearTimeout(timer);
    wakesAt = time;
    timer = setTimeout(sweep, Math.max(1, time - performance.now())).unref();
  }

  function sweep(): void {
    const now = performance.now();
    wakesAt = Number.POSITIVE_INFINITY;
    let next = wakesAt;
    for (const flight of flights) {
      if (flight.expiresAt <= now) onExpired(flight);
      else next = Math.min(next, flight.expiresAt);
    }
    if (next < wakesAt) wakeAt(next);
  }

  function onAbort({ target }: Event): void {
    for (const flight of flights) if (flight.signal === target) onAborted(flight);
  }

  function count(signal: AbortSignal, change: 1 | -1): void {
    const before = bySignal.get(signal) ?? 0;
    if (before === 0) signal.addEventListener("abort", onAbort);
    if (before + change > 0) bySignal.set(signal, before + change);
    else {
      bySignal.delete(signal);
      signal.removeEventListener("abort", onAbort);
    }
  }

  return {
    get size() {
      return flights.size;
    },
    has: (flight) => flights.has(flight),
    add(flight) {
      flights.add(flight);
      if (flight.expiresAt < wakesAt) wakeAt(flight.expiresAt);
      if (flight.signal !== undefined) count(flight.signal, 1);
    },
    remove(flight) {
      if (!flights.delete(flight)) return false;
      if (flight.signal !== undefined) count(flight.signal, -1);
      return true;
    },
  };
}
