/** Finds out that a connection is dead though nobody says so: a peer that is frozen, a link that swallows packets. */
export interface Keepalive {
  /** Asks the peer now, if nobody has within the last seconds: an answer of its is overdue. */
  check(): void;
  /** Whether the peer has answered all that it was asked. */
  isResponsive(): boolean;
  stop(): void;
}

export interface KeepaliveOptions {
  /** A peer that has sent nothing for so long is asked. 0: never. */
  readonly timeMs: number;
  /** A peer that has not answered by then is gone. */
  readonly timeoutMs: number;
  /** Whether to ask while there are no calls. */
  readonly withoutCalls: boolean;
  /** By how much more rarely overdue answers may make it ask: for a peer that has complained. Default 1. */
  readonly checkFactor?: number;
  readonly hasCalls: () => boolean;
  /** How much has been read so far: any byte is a sign of life. */
  readonly bytesRead: () => number;
  /** Asks; `onAnswer` may come at any time, or never. */
  readonly ping: (onAnswer: () => void) => void;
  /** `isResponsive` has changed. */
  readonly onChange: () => void;
  readonly onDead: () => void;
}

/**
 * Servers count pings that come too often (gRFC A8) and close the connection: a peer is not asked more often than this,
 * however many answers are overdue.
 */
const LEAST_MS_BETWEEN_CHECKS = 10_000;
/**
 * They begin to count anew with each answer that they send ("ping strikes"). A peer that has sent something since the
 * last check may be asked so soon again: else one late answer would hide for long that it freezes just after.
 */
const LEAST_MS_AFTER_ANSWERS = 1_000;

/** gRFC A8, with one thing more: while an answer to a ping is outstanding, the peer counts as unresponsive. */
export function createKeepalive(options: KeepaliveOptions): Keepalive {
  const { timeMs, timeoutMs, bytesRead, checkFactor = 1 } = options;
  let isResponsive = true;
  let lastCheckAt = Number.NEGATIVE_INFINITY;
  let bytesSeen = bytesRead();
  let bytesAtLastAnswer = bytesSeen;
  let deadTimer: NodeJS.Timeout | undefined;
  // Looks once each `timeMs`, and not at each byte: a peer is asked between one and two of them after its last byte.
  const timer = timeMs > 0 ? setInterval(look, timeMs).unref() : undefined;

  function look(): void {
    const bytes = bytesRead();
    const isSilent = bytes === bytesSeen;
    bytesSeen = bytes;
    if (isSilent && (options.withoutCalls || options.hasCalls())) ask();
  }

  function ask(): void {
    if (!isResponsive) return;
    lastCheckAt = performance.now();
    const bytesBefore = bytesRead();
    setResponsive(false);
    options.ping(() => {
      clearTimeout(deadTimer);
      bytesAtLastAnswer = bytesRead();
      setResponsive(true);
    });
    deadTimer = setTimeout(() => {
      // Its answer may be behind a lot of others.
      if (bytesRead() === bytesBefore) options.onDead();
      else setResponsive(true);
    }, timeoutMs).unref();
  }

  function setResponsive(value: boolean): void {
    if (isResponsive === value) return;
    isResponsive = value;
    options.onChange();
  }

  return {
    check() {
      const hasAnswered = bytesRead() > bytesAtLastAnswer;
      const leastMs = hasAnswered ? LEAST_MS_AFTER_ANSWERS : LEAST_MS_BETWEEN_CHECKS;
      if (performance.now() - lastCheckAt >= leastMs * checkFactor) ask();
    },
    isResponsive: () => isResponsive,
    stop() {
      clearInterval(timer);
      clearTimeout(deadTimer);
    },
  };
}
