import type { Kysely, Transaction } from "kysely";
import { UserCreatedSchema, UserGreetedSchema } from "#gen/user/v1/user_events_pb.ts";
import type { EventBus, EventConsumer, Inbox, Outbox } from "#shared/event-bus";
import type { CountGreeting } from "./greetings.ts";
import type { UserEvents, UserTables } from "./repository.ts";
import type { Announce } from "./users.ts";

/** What user-service publishes of users. */
export function userEvents(outbox: Outbox): UserEvents {
  return {
    created: (tx, { id, username }) => outbox.add(tx, UserCreatedSchema, { userId: id, username }, { key: id }),
  };
}

/** What user-service publishes of greetings. No change in the database goes with one. */
export function announceGreetings(outbox: Outbox, db: Kysely<UserTables>): Announce {
  return ({ name, message }) => outbox.add(db, UserGreetedSchema, { name, message }, { key: name });
}

/** What its queue is for. */
export const userServiceConsumes = [UserGreetedSchema, UserCreatedSchema] as const;

export interface UserConsumersOptions {
  readonly bus: EventBus;
  readonly inbox: Inbox<UserTables>;
  /** The use case, in a handler's transaction. */
  readonly countIn: (tx: Transaction<UserTables>) => CountGreeting;
}

/** What user-service consumes: greetings, of older publishers too, who send bare JSON as `user.hello`. */
export function userConsumers({ bus, inbox, countIn }: UserConsumersOptions): readonly EventConsumer[] {
  return [
    bus.consume({
      events: userServiceConsumes,
      guard: inbox,
      handlers: {
        "user.v1.UserGreeted": ({ name }, { tx }) => countIn(tx)(name),
        // The queue gets it by its pattern `user.#`. There is nothing to do, and nothing to be warned of.
        "user.v1.UserCreated": () => {},
      },
    }),
  ];
}
