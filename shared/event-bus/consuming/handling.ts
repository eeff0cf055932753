import type { DescMessage, Message } from "@bufbuild/protobuf";
import { v7 as uuid } from "uuid";
import { type CallContext, continueTrace, runInCall, startTrace } from "#shared/call-context";
import type { ConsumerGuard, GuardedMessage, GuardResult } from "../bus.ts";
import { createDecoder } from "../codec.ts";
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

/** A decoded message on its way to its handler. */
interface Work extends GuardedMessage {
  readonly place: number;
  readonly received: Received;
  readonly event: Message;
  readonly name: string;
  readonly prepare: Step | undefined;
  readonly handle: Step;
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
    try {
      const prepared = work.prepare === undefined ? {} : { prepared: work.prepared };
      await run(work, deadline, work.handle, { ...extra, ...prepared });
    } finally {
      if (deadline !== work.deadline) deadline.end();
    }
  }

  async function guarded(works: readonly Work[]): Promise<readonly GuardResult[]> {
    try {
      return await guard.run(queue, works, handle);
    } catch (error) {
      return works.map(() => ({ kind: "unavailable", error }));
    } finally {
      for (const { deadline } of works) deadline?.end();
    }
  }

  return async (messages) => {
    const results: (AttemptResult | undefined)[] = messages.map(() => undefined);
    let outage: AttemptResult | undefined;
    let batch: Work[] = [];

    async function flush(): Promise<void> {
      const works = batch;
      batch = [];
      if (works.length === 0) return;
      const outcomes = outage === undefined ? await guarded(works) : [];
      for (const [index, work] of works.entries()) {
        const result = outcomes[index] ?? outage ?? NOT_RUN;
        if (result.kind === "unavailable") outage ??= result;
        results[work.place] = result;
      }
    }

    for (const [place, received] of messages.entries()) {
      const decoded = decode(received.envelope);
      if (decoded.kind !== "event") {
        results[place] = decoded;
        continue;
      }
      const { id, source } = received.envelope;
      const { name } = decoded.type;
      const step = steps.get(name);
      if (step === undefined) throw new TypeError(`the consumer of ${queue} has no handler of ${name}`);
      const work: Work = {
        id,
        source,
        place,
        received,
        event: decoded.message,
        name,
        ...step,
        deadline: undefined,
        prepared: undefined,
        failure: undefined,
      };
      if (step.prepare === undefined) {
        batch.push(work);
        continue;
      }
      await flush();
      if (outage === undefined) await prepare(work, step.prepare);
      batch.push(work);
      await flush();
    }
    await flush();
    return results.map((result) => result ?? NOT_RUN);
  };
}

const NOT_RUN: GuardResult = { kind: "unavailable", error: new Error("the guard gave no result") };

function stepsOf(handler: AnyHandler | undefined, queue: string, name: string) {
  if (typeof handler !== "function") throw new TypeError(`the consumer of ${queue} has no handler of ${name}`);
  const prepared = preparedSteps(handler);
  if (prepared === undefined) return { prepare: undefined, handle: handler };
  return { prepare: prepared.prepare as unknown as Step, handle: prepared.handle as unknown as Step };
}

/** Runs a step until its deadline, as part of the trace that the event belongs to. */
async function run(work: Work, deadline: Deadline, step: Step, extra: object): Promise<unknown> {
  const { received, name, event } = work;
  const { envelope, attempt, postponed } = received;
  const { id, source, key, timeMs } = envelope;
  const { signal } = deadline;
  const time = new Date(timeMs);
  const context: EventContext = { ...extra, id, source, time, key, attempt: attempt + postponed, signal };
  return deadline.bound(runInCall(callOf(envelope, name, deadline), async () => step(event, context)));
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
