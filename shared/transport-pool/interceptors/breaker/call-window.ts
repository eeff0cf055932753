/** How many calls there were lately, and how many of them failed. */
export interface CallWindow {
  record(isFailure: boolean, nowMs: number): void;
  totals(nowMs: number): { readonly calls: number; readonly failures: number };
  clear(): void;
}

/** What is forgotten is forgotten in steps of a tenth of the window. */
const SLICES = 10;

export function createCallWindow(windowMs: number): CallWindow {
  const sliceMs = windowMs / SLICES;
  const calls = new Array<number>(SLICES).fill(0);
  const failures = new Array<number>(SLICES).fill(0);
  let current = Number.NEGATIVE_INFINITY;

  function moveTo(nowMs: number): number {
    const slice = Math.floor(nowMs / sliceMs);
    for (let gone = Math.max(current + 1, slice - SLICES + 1); gone <= slice; gone++) {
      calls[gone % SLICES] = 0;
      failures[gone % SLICES] = 0;
    }
    current = Math.max(current, slice);
    return current % SLICES;
  }

  return {
    record(isFailure, nowMs) {
      const index = moveTo(nowMs);
      calls[index] = (calls[index] ?? 0) + 1;
      if (isFailure) failures[index] = (failures[index] ?? 0) + 1;
    },
    totals(nowMs) {
      moveTo(nowMs);
      return { calls: sum(calls), failures: sum(failures) };
    },
    clear() {
      calls.fill(0);
      failures.fill(0);
    },
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
