import type { BreakerConfig } from "../../config/breaker.ts";
import { createCallWindow } from "./call-window.ts";

/** Keeps calls from a peer that fails most of them, until one that tries it goes well. */
export interface Breaker {
  /**
   * What to tell the call's verdict to, once; undefined when the call must not be made. A call without a verdict has to
   * tell `none`.
   *
   * @param config what is in force now: it may change from one call to the next
   */
  begin(config: BreakerConfig): BreakerPass | undefined;
  state(): BreakerState;
}

export interface BreakerPass {
  /** Whether this call decides if the breaker closes or opens again. */
  readonly isProbe: boolean;
  /** Further ones are ignored. */
  end(verdict: BreakerVerdict): void;
}

/** `none`: the call says nothing about its peer. It was cancelled, or never got there. */
export type BreakerVerdict = "success" | "failure" | "none";

export interface BreakerState {
  /** `open` until the first call after `retryAtMs`; `half_open` while single calls try the peer. */
  readonly state: "closed" | "open" | "half_open";
  /** In the window, with a verdict; since it closed. */
  readonly calls: number;
  readonly failures: number;
  /** When the next call is let through at the latest, on the breaker's clock; undefined when closed. */
  readonly retryAtMs?: number;
}

export interface BreakerOptions {
  readonly config: BreakerConfig;
  /** Milliseconds, always growing. */
  readonly now: () => number;
  /** After each change of `state`. */
  readonly onChange?: (state: BreakerState) => void;
}

const OPEN_FACTOR = 2;

/**
 * Refusals are not counted, so that it cannot keep itself open, and it never gets stuck half-open: when a probe ends
 * without a verdict, or has none after `open`, the next call is a probe. An earlier one still decides when its verdict
 * comes, since good answers may take longer than `open`: of the probes that are under way, the first verdict counts.
 */
export function createBreaker({ config: initial, now, onChange }: BreakerOptions): Breaker {
  let config = initial;
  let window = createCallWindow(config.windowMs);
  let state: BreakerState["state"] = "closed";
  /** Calls that were begun before the last change have nothing to say about what came after. */
  let era = 0;
  let openMs = config.openMs;
  let retryAtMs = 0;
  /** The latest: until it has ended, or `open` is over, there is no other. */
  let probe: Pass | undefined;

  function snapshot(): BreakerState {
    const totals = window.totals(now());
    return state === "closed" ? { state, ...totals } : { state, ...totals, retryAtMs };
  }

  function change(next: BreakerState["state"]): void {
    state = next;
    era++;
    probe = undefined;
    onChange?.(snapshot());
  }

  function open(): void {
    retryAtMs = now() + openMs;
    change("open");
  }

  function close(): void {
    openMs = config.openMs;
    window.clear();
    change("closed");
  }

  function reconfigure(next: BreakerConfig): void {
    if (next.windowMs !== config.windowMs) window = createCallWindow(next.windowMs);
    config = next;
    openMs = Math.min(Math.max(openMs, config.openMs), config.maxOpenMs);
    if (state === "closed") openMs = config.openMs;
    else retryAtMs = Math.min(retryAtMs, now() + openMs);
  }

  function count(verdict: BreakerVerdict): void {
    if (verdict === "none") return;
    window.record(verdict === "failure", now());
    if (verdict === "success") return;
    const { calls, failures } = window.totals(now());
    if (calls >= config.minCalls && failures >= calls * config.failureRatio) open();
  }

  function decide(verdict: BreakerVerdict, pass: Pass): void {
    // From before the last change.
    if (era !== pass.era) return;
    if (!pass.isProbe) count(verdict);
    else if (verdict === "success") close();
    else if (verdict === "failure") {
      openMs = Math.min(openMs * OPEN_FACTOR, config.maxOpenMs);
      open();
    } else if (probe === pass) retryAtMs = now();
  }

  function beginProbe(): BreakerPass {
    retryAtMs = now() + config.openMs;
    probe = new Pass(true, era, decide);
    return probe;
  }

  return {
    begin(latest) {
      if (latest !== config) reconfigure(latest);
      if (state === "closed") return new Pass(false, era, decide);
      if (now() < retryAtMs) return undefined;
      if (state === "open") change("half_open");
      return beginProbe();
    },
    state: snapshot,
  };
}

/** There is one for each call. */
class Pass implements BreakerPass {
  readonly isProbe: boolean;
  readonly era: number;
  readonly #decide: (verdict: BreakerVerdict, pass: Pass) => void;
  #hasEnded = false;

  constructor(isProbe: boolean, era: number, decide: (verdict: BreakerVerdict, pass: Pass) => void) {
    this.isProbe = isProbe;
    this.era = era;
    this.#decide = decide;
  }

  end(verdict: BreakerVerdict): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#decide(verdict, this);
  }
}
