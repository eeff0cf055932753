import type { DescMessage, Message } from "@bufbuild/protobuf";
import { v7 as uuid } from "uuid";
import { continueTrace, runInCall, startTrace } from "#shared/call-context";
import { DomainError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import type { ConsumerGuard, EventContext, GuardResult } from "../bus.ts";
import { createDecoder } from "../codec.ts";
import type { EventEnvelope } from "../envelope.ts";
import { RejectedEventError } from "../errors.ts";
import { eventTypeOf } from "../event-type.ts";

/** A message as it came from a queue. */
export interface Received {
  readonly envelope: EventEnvelope;
  /** 1 for the first. */
  readonly attempt: number;
  /** Number of times that it was put off without costing an attempt. */
  readonly postponed: number;
}

/** Why a message became a dead letter. */
export type DeadLetterReason = "undecodable" | "rejected" | "attempts_exhausted";

/** What became of one attempt, and so what the bus does with the message. */
export type Outcome =
  | { readonly kind: "handled" | "duplicate" | "unknown" }
  | { readonly kind: "retry"; readonly error: unknown }
  | { readonly kind: "dead"; readonly reason: DeadLetterReason; readonly error: unknown }
  /** The guard cannot work: the same again, later, as if nothing had been. */
  | { readonly kind: "unavailable"; readonly error: unknown };

export interface HandlingOptions {
  readonly queue: string;
  readonly events: readonly DescMessage[];
  readonly handlers: Readonly<Record<string, AnyHandler>>;
  readonly guard: ConsumerGuard<object>;
  readonly handlerTimeoutMs: number;
  /** How often a message is tried at the most. */
  readonly maxAttempts: number;
  readonly logger: Logger;
}

export type AnyHandler = (event: Message, context: EventContext) => Promise<void> | void;

/** Decodes messages and has them handled, in order. Never rejects: one outcome for each message. */
export type Handling = (messages: readonly Received[]) => Promise<Outcome[]>;

/** A message with its decoded event, as the guard sees it. */
interface Work {
  readonly id: string;
  readonly source: string;
  readonly received: Received;
  readonly event: Message;
  readonly name: string;
}

/** @throws TypeError when an event is not declared as one, or has no handler */
export function createHandling(options: HandlingOptions): Handling {
  const { queue, handlers, guard, handlerTimeoutMs, maxAttempts } = options;
  const types = options.events.map((schema) => eventTypeOf(schema));
  for (const { name } of types) {
    if (typeof handlers[name] !== "function") throw new TypeError(`the consumer of ${queue} has no handler of ${name}`);
  }
  const decode = createDecoder(types);

  async function handle({ received: { envelope, attempt }, event, name }: Work, extra: object): Promise<void> {
    const handler = handlers[name];
    if (handler === undefined) throw new TypeError(`no handler of ${name}`);
    const deadline = new AbortController();
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const error = new DomainError(
        "deadline_exceeded",
        "EVENT_HANDLER_TIMEOUT",
        `not handled in ${handlerTimeoutMs} ms`,
      );
      deadline.abort(error);
      reject(error);
    }, handlerTimeoutMs);
    const context: EventContext = {
      ...extra,
      id: envelope.id,
      source: envelope.source,
      time: new Date(envelope.timeMs),
      key: envelope.key,
      attempt,
      signal: deadline.signal,
    };
    try {
      await Promise.race([
        inCallOf(envelope, name, handlerTimeoutMs, deadline.signal, () => handler(event, context)),
        late,
      ]);
    } finally {
      clearTimeout(timer);
    }
  }

  async function guarded(works: readonly Work[]): Promise<readonly GuardResult[]> {
    try {
      return await guard.run(queue, works, handle);
    } catch (error) {
      return works.map(() => ({ kind: "unavailable", error }));
    }
  }

  return async (messages) => {
    const outcomes: (Outcome | undefined)[] = [];
    const works: Work[] = [];
    const places: number[] = [];
    for (const [index, received] of messages.entries()) {
      const decoded = decode(received.envelope);
      if (decoded.kind === "event") {
        works.push({
          id: received.envelope.id,
          source: received.envelope.source,
          received,
          event: decoded.message,
          name: decoded.type.name,
        });
        places.push(index);
      } else if (decoded.kind === "unknown") outcomes[index] = { kind: "unknown" };
      else outcomes[index] = { kind: "dead", reason: "undecodable", error: decoded.error };
    }
    const results = works.length === 0 ? [] : await guarded(works);
    for (const [i, place] of places.entries()) {
      outcomes[place] = outcomeOf(results[i], works[i]?.received.attempt ?? 1, maxAttempts);
    }
    return outcomes.map((outcome) => outcome ?? NOT_RUN);
  };
}

const NOT_RUN: Outcome = { kind: "unavailable", error: new Error("the guard gave no result") };

function outcomeOf(result: GuardResult | undefined, attempt: number, maxAttempts: number): Outcome {
  if (result === undefined) return NOT_RUN;
  if (result.kind === "done") return { kind: "handled" };
  if (result.kind !== "failed") return result;
  const { error } = result;
  if (error instanceof RejectedEventError) return { kind: "dead", reason: "rejected", error };
  return attempt < maxAttempts ? { kind: "retry", error } : { kind: "dead", reason: "attempts_exhausted", error };
}

/** The handler's part of the trace that the event belongs to, with its own deadline and not the publisher's. */
function inCallOf(
  { context, source }: EventEnvelope,
  name: string,
  timeoutMs: number,
  signal: AbortSignal,
  work: () => Promise<void> | void,
): Promise<void> | void {
  const call = {
    method: name,
    requestId: context["x-request-id"] ?? uuid(),
    trace: continueTrace(context["traceparent"] ?? null, context["tracestate"] ?? null) ?? startTrace(),
    caller: source,
    deadlineMs: performance.now() + timeoutMs,
    signal,
  };
  return runInCall(call, async () => work());
}

/** At least once: what the handler has done is done again when the message comes again. */
export const unguarded: ConsumerGuard<object> = {
  batchSize: 1,
  ready: async () => {},
  async run(_, messages, work) {
    const results: GuardResult[] = [];
    for (const message of messages) {
      try {
        await work(message, {});
        results.push({ kind: "done" });
      } catch (error) {
        results.push({ kind: "failed", error });
      }
    }
    return results;
  },
};
