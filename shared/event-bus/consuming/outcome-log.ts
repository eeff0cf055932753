import { continueTrace } from "#shared/call-context";
import type { Logger } from "#shared/logging";
import type { Outcome, Received } from "./handling.ts";

/** What is worth a line of what became of messages: failures, and never what a handler did well. */
export interface OutcomeLog {
  settled(received: Received, outcome: Outcome): void;
  unavailable(error: unknown): void;
}

/** How often the same trouble is told. */
const QUIET_MS = 10_000;

export function createOutcomeLog(queue: string, logger: Logger, keepsDeadLetters: boolean): OutcomeLog {
  const told = new Map<string, number>();

  /** Bounded: types come from outside. */
  function isNews(topic: string): boolean {
    const now = Date.now();
    if (now - (told.get(topic) ?? 0) < QUIET_MS) return false;
    if (told.size >= 1_000) told.clear();
    told.set(topic, now);
    return true;
  }

  return {
    settled({ envelope, attempt }, outcome) {
      if (outcome.kind === "handled" || outcome.kind === "duplicate") return;
      const event = { queue, event_type: envelope.type, event_id: envelope.id, attempt, ...ids(envelope.context) };
      if (outcome.kind === "unknown") {
        if (isNews(envelope.type)) logger.warn(event, "event of an unknown type acknowledged");
      } else if (outcome.kind === "retry")
        logger.warn({ ...event, err: outcome.error }, "event failed, to be tried again");
      else if (outcome.kind === "dead") {
        logger.error(
          { ...event, reason: outcome.reason, err: outcome.error },
          keepsDeadLetters ? "event became a dead letter" : "event failed, and is dropped",
        );
      }
    },
    unavailable(err) {
      // Each kind of trouble: that of the start would hide the one that lasts.
      if (isNews(` unavailable ${String(err)}`))
        logger.warn({ queue, err }, "events wait, since the inbox cannot be used");
    },
  };
}

/** Outside of the handler's call there is nobody else to say whose line it is. */
function ids(context: Received["envelope"]["context"]): object {
  const trace = continueTrace(context["traceparent"] ?? null, null);
  return trace === undefined ? {} : { trace_id: trace.traceId, request_id: context["x-request-id"] };
}
