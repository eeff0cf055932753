import { continueTrace } from "#shared/call-context";
import type { LogThrottle } from "#shared/logging";
import type { Disposition } from "./disposition.ts";
import type { Received } from "./handling.ts";

/** Logs what became of messages: failures and duplicates, one line for each kind and interval. */
export type OutcomeLog = (received: Received, disposition: Disposition) => void;

export function createOutcomeLog(queue: string, log: LogThrottle, keepsDeadLetters: boolean): OutcomeLog {
  return (received, disposition) => {
    if (disposition.kind === "acknowledge" && disposition.as === "handled") return;
    const { envelope, attempt, postponed } = received;
    const { id, source, type, context } = envelope;
    const event = { queue, event_type: type, event_id: id, event_source: source, attempt, postponed };
    const fields = { ...event, ...traceOf(context) };
    if (disposition.kind === "acknowledge") log.info("duplicate", fields, "duplicate event dropped");
    else if (disposition.kind === "ignore") log.info(`ignored ${type}`, fields, "event of an unknown type");
    else if (disposition.kind === "give-back") {
      const { error: err } = disposition;
      log.warn("give-back", { queue, err }, "events wait: the database cannot be used");
    } else if (disposition.kind === "retry") {
      const { error: err, delayMs: retry_ms, costsAttempt } = disposition;
      if (costsAttempt) log.warn(`retry ${type}`, { ...fields, retry_ms, err }, "event failed, and is tried again");
      else log.warn(`postponed ${type}`, { ...fields, retry_ms, err }, "event postponed, at the cost of no attempt");
    } else {
      const { reason, error: err } = disposition;
      const message = keepsDeadLetters ? "event became a dead letter" : "event failed, and is dropped";
      log.error(`dead-letter ${reason} ${type}`, { ...fields, reason, err }, message);
    }
  };
}

/** The line is written outside of the handler's call, which has these fields otherwise. */
function traceOf(context: Received["envelope"]["context"]): object {
  const trace = continueTrace(context["traceparent"] ?? null, null);
  return trace === undefined ? {} : { trace_id: trace.traceId, request_id: context["x-request-id"] };
}
