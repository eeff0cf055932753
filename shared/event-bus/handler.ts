import type { DescMessage, MessageShape } from "@bufbuild/protobuf";

/** Attributes of an event, for its handler. */
export interface EventContext {
  /** Identifies the event together with `source`. The same for every copy and attempt. */
  readonly id: string;
  /** The service that published it. */
  readonly source: string;
  readonly time: Date;
  /** Empty when the event has none. */
  readonly key: string;
  /** 1 for the first. Attempts that were put off because of a peer's outage count, too. */
  readonly attempt: number;
  /** Aborts at the handler's deadline. */
  readonly signal: AbortSignal;
}

/** Nothing beyond the EventContext. */
export type EmptyContext = Record<never, never>;

export type EventHandler<Schema extends DescMessage, Extra extends object = EmptyContext> = (
  event: MessageShape<Schema>,
  context: EventContext & Extra,
) => Promise<void> | void;

/** A handler for each event, by its full name. A conditional type, so that parameters of handlers are inferred. */
export type EventHandlers<
  Events extends readonly DescMessage[],
  Extra extends object = EmptyContext,
> = Events extends readonly DescMessage[]
  ? { readonly [Schema in Events[number] as MessageShape<Schema>["$typeName"]]: EventHandler<Schema, Extra> }
  : never;

/** The two steps of a handler that does work before its transaction. */
export interface PreparedHandler<Event, Context extends EventContext, Prepared> {
  readonly prepare: (event: Event, context: EventContext) => Promise<Prepared> | Prepared;
  readonly handle: (event: Event, context: Context & { readonly prepared: Prepared }) => Promise<void> | void;
}

const steps = new WeakMap<object, PreparedHandler<never, never, unknown>>();

/**
 * Makes a handler that does work before its transaction begins, such as a call to a peer: no row lock and no connection is
 * held meanwhile. `handle` gets the result as `prepared`. Both steps share the handler's deadline, and both run again
 * when the event is tried again. `prepare` also runs for a copy that the inbox then drops.
 *
 * @example
 * "order.v1.OrderPlaced": withPrepare({
 *   prepare: ({ bookId }: OrderPlaced, { signal }) => books.getBook({ id: bookId }, { signal }),
 *   handle: async ({ orderId }, { tx, prepared: book }) => { … },
 * })
 */
export function withPrepare<Event, Context extends EventContext, Prepared>(
  handler: PreparedHandler<Event, Context, Prepared>,
): (event: Event, context: Context) => Promise<void> {
  // For a caller that knows nothing of steps: one after the other.
  const both = async (event: Event, context: Context): Promise<void> => {
    const prepared = await handler.prepare(event, context);
    await handler.handle(event, { ...context, prepared });
  };
  steps.set(both, handler as unknown as PreparedHandler<never, never, unknown>);
  return both;
}

/** The steps of a handler that `withPrepare` has made; undefined for others. */
export function preparedSteps(handler: object): PreparedHandler<never, never, unknown> | undefined {
  return steps.get(handler);
}
