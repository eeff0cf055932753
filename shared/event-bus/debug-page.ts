import type { EventBus } from "./bus.ts";
import type { Outbox } from "./outbox/outbox.ts";

export interface EventsPageOptions {
  readonly bus: Pick<EventBus, "states">;
  readonly outbox: Pick<Outbox, "state">;
}

/** Creates the admin page `/debug/events`: the states of bus and outbox. While the database is away, `outbox` says why. */
export function eventsPage({ bus, outbox }: EventsPageOptions): () => Promise<unknown> {
  return async () => ({
    bus: bus.states(),
    outbox: await outbox.state().catch((error: unknown) => ({
      error: error instanceof Error ? error.message : String(error),
    })),
  });
}
