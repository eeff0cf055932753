const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/** Doubles from 100 ms to 5 s, less up to a fifth, so that replicas do not all come at once. */
export function retryDelay(failures: number): number {
  return Math.min(FIRST_MS * 2 ** Math.min(failures, 10), LONGEST_MS) * (1 - Math.random() / 5);
}
