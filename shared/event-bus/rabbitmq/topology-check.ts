import type { ComponentReadiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { createBackoff, sleep } from "#shared/timing";
import { TopologyError } from "../errors.ts";

export interface TopologyCheckOptions {
  /** Declares what is needed: the broker makes what is gone, and compares what is there. */
  readonly declare: () => Promise<void>;
  /** Mean time between two checks, in milliseconds. 0: nothing is checked once it is all declared. */
  readonly intervalMs: number;
  /** Whether all of it has been declared already. */
  readonly isDeclared: boolean;
  /** Ready once everything is declared; not ready, with the broker's words, while a declaration differs. */
  readonly component: ComponentReadiness;
  readonly logger: Logger;
  /** Ends the checks. */
  readonly signal: AbortSignal;
}

/** Random share of the interval, so that the replicas of a service do not check at the same time. */
const JITTER = 0.25;

/**
 * Declares the topology until it is there, and from then on again and again: an operator may delete an exchange, a queue or
 * a binding while the connection lives, and the broker does not say so. An outage after that leaves the component ready, since
 * the connections report it. Resolves when the signal fires, and never rejects.
 */
export async function keepTopology(options: TopologyCheckOptions): Promise<void> {
  const { declare, intervalMs, component, logger, signal } = options;
  const backoff = createBackoff({ initialMs: 100, maxMs: 5_000 });
  let isDeclared = options.isDeclared;
  let reported: string | undefined;

  function report(error: unknown): void {
    const isDifferent = error instanceof TopologyError;
    const reason = error instanceof Error ? error.message : String(error);
    if (isDifferent || !isDeclared) component.notReady(reason);
    if (reason === reported) return;
    reported = reason;
    if (isDifferent)
      logger.error({ err: error }, "the event bus cannot be used: exchange or queue declared differently");
    else if (!isDeclared) logger.warn({ err: error }, "the event bus cannot be used yet");
  }

  for (let isFailing = !isDeclared; isFailing || intervalMs > 0; ) {
    const waitMs = isFailing ? backoff.next() : intervalMs * (1 + JITTER * (2 * Math.random() - 1));
    if (!(await sleep(waitMs, signal, { keepsAlive: false }))) return;
    try {
      await declare();
      if (signal.aborted) return;
      if (reported !== undefined) logger.info("exchange, queues and bindings are declared");
      component.ready();
      [isFailing, isDeclared, reported] = [false, true, undefined];
      backoff.reset();
    } catch (error) {
      if (signal.aborted) return;
      isFailing = true;
      report(error);
    }
  }
}
