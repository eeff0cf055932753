import { MAX_TIMER_MS } from "../rpc/timeout.ts";

/** Connections that were opened together do not end together. */
const JITTER = 0.1;

export interface ConnectionAgeOptions {
  /** 0: connections do not age. */
  readonly maxAgeMs: number;
  /** How long its calls may go on. 0: as long as they take. */
  readonly graceMs: number;
  /** Tells the peer to open no more calls on the connection. */
  readonly onAge: () => void;
  /** Closes the connection. */
  readonly onGraceEnd: () => void;
}

/**
 * Ends a connection after its maximum age, so that clients behind a balancer of connections spread over new servers (gRFC A9).
 *
 * @returns how to stop it, when the connection has closed
 */
export function limitAge({ maxAgeMs, graceMs, onAge, onGraceEnd }: ConnectionAgeOptions): () => void {
  if (maxAgeMs === 0) return () => {};
  const jittered = maxAgeMs * (1 - JITTER + 2 * JITTER * Math.random());
  let timer = setTimeout(
    () => {
      if (graceMs > 0) timer = setTimeout(onGraceEnd, graceMs).unref();
      onAge();
    },
    Math.min(jittered, MAX_TIMER_MS),
  ).unref();
  return () => clearTimeout(timer);
}
