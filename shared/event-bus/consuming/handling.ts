import type { DescMessage, Message } from "@bufbuild/protobuf";
import { type CallContext, continueTrace, runInCall, startTrace, uuid } from "#shared/call-context";
import type { ConsumerGuard, GuardedMessage, GuardResult } from "../bus.ts";
import { createDecoder, type Decoded } from "../codec.ts";
import type { EventEnvelope } from "../envelope.ts";
import { eventTypeOf } from "../event-type.ts";
import { type EventContext, preparedSteps } from "../handler.ts";
import { type Deadline, startDeadline } from "./deadline.ts";

/** A message as it came from a queue. */
export interface Received {
  readonly envelope: EventEnvelope;
  /** 1 for the first. */
  readonly attempt: number;
  /** Number of times that it was put off without costing an attempt. */
  readonly postponed: number;
  /** Number of times that it went round because a replica did not know its type. */
  readonly unknownRounds: number;
}

/** How one attempt at a message ended. */
export type AttemptResult =
  | GuardResult
  | { readonly kind: "undecodable"; readonly error: Error }
  /** No handler here knows the type. */
  | { readonly kind: "unknown"; readonly type: string };

/** Decodes messages and has them handled, in their order. Never rejects: one result for each message. */
export type Handling = (messages: readonly Received[]) => Promise<AttemptResult[]>;

export interface HandlingOptions {
  readonly queue: string;
  readonly events: readonly DescMessage[];
  /** By the event's full name. */
  readonly handlers: Readonly<Record<string, AnyHandler>>;
  readonly guard: ConsumerGuard<object>;
  readonly handlerTimeoutMs: number;
}

type Step = (event: Message, context: EventContext) => unknown;

/** A handler of any event. */
export type AnyHandler = Step;

interface Steps {
  /** The event's full name. */
  readonly name: string;
  readonly prepare: Step | undefined;
  readonly handle: Step;
}

/** A decoded message on its way to its handler. */
interface Work extends GuardedMessage {
  readonly place: number;
  readonly received: Received;
  readonly event: Message;
  readonly steps: Steps;
  /** Begun by the step before the transaction. */
  deadline: Deadline | undefined;
  prepared: unknown;
  /** Of the step before the transaction. */
  failure: { readonly error: unknown } | undefined;
}

/**
 * The way of a message: decode → deadline → trace → prepare → guard → handler. The guard is the one step that takes a
 * batch; a message with a `prepare` step goes through it alone.
 *
 * @throws TypeError when an event is not declared as one, or has no handler
 */
export function createHandling({ queue, events, handlers, guard, handlerTimeoutMs }: HandlingOptions): Handling {
  const types = events.map((schema) => eventTypeOf(schema));
  const steps = new Map(types.map(({ name }) => [name, stepsOf(handlers[name], queue, name)]));
  const decode = createDecoder(types);

  function decoded(received: Received, place: number): Work | Exclude<Decoded, { readonly kind: "event" }> {
    const content = decode(received.envelope);
    if (content.kind !== "event") return content;
    const { id, source } = received.envelope;
    const { name } = content.type;
    const own = steps.get(name);
    if (own === undefined) throw new TypeError(`the consumer of ${queue} has no handler of ${name}`);
    const begun = { deadline: undefined, prepared: undefined, failure: undefined };
    return { id, source, place, received, event: content.message, steps: own, ...begun };
  }

  /** Runs the step before the transaction. Its failure goes through the guard, which knows copies and outages. */
  async function prepare(work: Work, step: Step): Promise<void> {
    work.deadline = startDeadline(handlerTimeoutMs);
    try {
      work.prepared = await run(work, work.deadline, step, {});
    } catch (error) {
      work.failure = { error };
    }
  }

  async function handle(work: Work, extra: object): Promise<void> {
    if (work.failure !== undefined) throw work.failure.error;
    // A guard may call this again, when it had to begin its transaction anew: a prepared deadline goes on.
    const deadline = work.deadline ?? startDeadline(handlerTimeoutMs);
    const { prepare, handle } = work.steps;
    try {
      const more = prepare === undefined ? extra : { ...extra, prepared: work.prepared };
      const running = run(work, deadline, handle, more);
      if (running !== undefined) await running;
    } finally {
      if (deadline !== work.deadline) deadline.end();
    }
  }

  async function guarded(works: readonly Work[]): Promise<readonly GuardResult[]> {
    const [first] = works;
    try {
      if (first?.steps.prepare !== undefined) await prepare(first, first.steps.prepare);
      return await guard.run(queue, works, handle);
    } catch (error) {
      return works.map(() => ({ kind: "unavailable", error }));
    } finally {
      first?.deadline?.end();
    }
  }

  return async (messages) => {
    const results: AttemptResult[] = [];
    const works: Work[] = [];
    for (const [place, received] of messages.entries()) {
      const work = decoded(received, place);
      if ("kind" in work) results[place] = work;
      else works.push(work);
    }
    let outage: GuardResult | undefined;
    for (let next = 0; next < works.length && outage === undefined; ) {
      const batch = works.slice(next, endOfBatch(works, next));
      const outcomes = await guarded(batch);
      for (const [index, { place }] of batch.entries()) {
        const result = outcomes[index] ?? NOT_RUN;
        if (result.kind === "unavailable") outage ??= result;
        results[place] = result;
      }
      next += batch.length;
    }
    return messages.map((_, place) => results[place] ?? outage ?? NOT_RUN);
  };
}

function endOfBatch(works: readonly Work[], from: number): number {
  let end = from + 1;
  if (works[from]?.steps.prepare !== undefined) return end;
  while (end < works.length && works[end]?.steps.prepare === undefined) end++;
  return end;
}

const NOT_RUN: GuardResult = { kind: "unavailable", error: new Error("the guard gave no result") };

function stepsOf(handler: AnyHandler | undefined, queue: string, name: string): Steps {
  if (typeof handler !== "function") throw new TypeError(`the consumer of ${queue} has no handler of ${name}`);
  const prepared = preparedSteps(handler);
  if (prepared === undefined) return { name, prepare: undefined, handle: handler };
  return { name, prepare: prepared.prepare as unknown as Step, handle: prepared.handle as unknown as Step };
}

/** Runs a step, until its deadline when it takes longer than this turn, as part of the trace that the event belongs to. */
function run(work: Work, deadline: Deadline, step: Step, extra: object): unknown {
  const { received, steps, event } = work;
  const { envelope, attempt, postponed } = received;
  const { id, source, key, timeMs } = envelope;
  const { signal } = deadline;
  const time = new Date(timeMs);
  const context: EventContext = { ...extra, id, source, time, key, attempt: attempt + postponed, signal };
  const result = runInCall(callOf(envelope, steps.name, deadline), step, event, context);
  return isThenable(result) ? deadline.bound(result) : result;
}

function isThenable(result: unknown): result is PromiseLike<unknown> {
  return typeof (result as PromiseLike<unknown> | null | undefined)?.then === "function";
}

/** The deadline is the handler's own, and not the publisher's. */
function callOf({ context, source }: EventEnvelope, method: string, { signal, atMs }: Deadline): CallContext {
  return {
    method,
    requestId: context["x-request-id"] ?? uuid(),
    trace: continueTrace(context["traceparent"] ?? null, context["tracestate"] ?? null) ?? startTrace(),
    caller: source,
    deadlineMs: atMs,
    signal,
  };
}

/** At least once: the effects of a handler happen again when its message comes again. */
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
