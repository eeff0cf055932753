export { type Backoff, type BackoffOptions, createBackoff } from "./backoff.ts";
export { type BoundedOutcome, bounded, type SettledOutcome, settled } from "./bounded.ts";
export { sleep } from "./sleep.ts";
