import {
  createOutboxOperations,
  type OutboxEvent,
  type OutboxEventState,
  type OutboxOperations,
  type WholeOutboxEvent,
} from "#shared/event-bus";
import { type Answer, type Command, type Given, UsageError } from "./command-types.ts";
import { outboxEventNotFound } from "./errors.ts";
import { withServiceDatabase } from "./service-database.ts";
import type { Env, EventsSetup } from "./setup.ts";
import { outboxEventText, outboxText } from "./text.ts";
import { contentOf, decoderOf } from "./whole-dead-letter.ts";

const STATES: ReadonlySet<string> = new Set<OutboxEventState>(["pending", "delayed", "failed", "behind", "parked"]);
const LIST_LIMIT = 100;
const RETRY_PAGE = 500;

/** What operators do with the events of a service's outbox. */
export function outboxCommandsOf(setup: EventsSetup): Readonly<Record<string, Command>> {
  return {
    "outbox list": {
      options: ["service", "state", "limit", "after"],
      async run(given, env) {
        const { limit = LIST_LIMIT, after } = given;
        const state = stateOf(given);
        const from = after === undefined ? undefined : numberOf("after", after);
        return onOutbox(given, env, setup, async (outbox, service) => {
          const events = await outbox.list({ state, limit, after: from });
          const next = events.length === limit ? events.at(-1)?.id : undefined;
          const data = { service, events: events.map(toData), next: next === undefined ? null : String(next) };
          return { text: outboxText(service, events, next), data };
        });
      },
    },
    "outbox show": {
      options: ["service", "id"],
      async run(given, env) {
        const id = idOf("show", given);
        return onOutbox(given, env, setup, async (outbox, service) => {
          const event = await outbox.show(id);
          if (event === undefined) throw outboxEventNotFound(service, id);
          const message = contentOf(event.envelope, decoderOf(setup.files));
          return { text: outboxEventText(event, message), data: toWholeData(event, message) };
        });
      },
    },
    "outbox park": {
      options: ["service", "id", "reason"],
      async run(given, env) {
        const id = idOf("park", given);
        return onOutbox(given, env, setup, async (outbox, service) =>
          changed(await outbox.park([id], given.reason), "parked", service, id),
        );
      },
    },
    "outbox retry": {
      options: ["service", "id", "state"],
      async run(given, env) {
        const state = stateOf(given);
        if ((state === undefined) === (given.id === undefined)) throw new UsageError("retry needs --id or --state");
        if (state === undefined) {
          const id = idOf("retry", given);
          return onOutbox(given, env, setup, async (outbox, service) =>
            changed(await outbox.retry([id]), "retried", service, id),
          );
        }
        return onOutbox(given, env, setup, async (outbox, service) => {
          const retried = await retryAll(outbox, state);
          return { text: `${retried} ${state} events of ${service} retried`, data: { service, retried } };
        });
      },
    },
    "outbox drop": {
      options: ["service", "id"],
      async run(given, env) {
        const id = idOf("drop", given);
        return onOutbox(given, env, setup, async (outbox, service) =>
          changed(await outbox.drop([id]), "dropped", service, id),
        );
      },
    },
  };
}

async function retryAll(outbox: OutboxOperations, state: OutboxEventState): Promise<number> {
  let retried = 0;
  let after: bigint | undefined;
  for (;;) {
    const events = await outbox.list({ state, limit: RETRY_PAGE, after });
    if (events.length === 0) return retried;
    retried += await outbox.retry(events.map(({ id }) => id));
    after = events.at(-1)?.id;
  }
}

/** @throws UsageError when no service is named that has a database */
async function onOutbox(
  { service }: Given,
  env: Env,
  { services }: EventsSetup,
  work: (outbox: OutboxOperations, service: string) => Promise<Answer>,
): Promise<Answer> {
  const names = Object.keys(services).filter((name) => services[name]?.database !== undefined);
  const database = service !== undefined && Object.hasOwn(services, service) ? services[service]?.database : undefined;
  if (service === undefined || database === undefined) {
    throw new UsageError(`outbox needs --service: ${names.join(", ")}`);
  }
  return withServiceDatabase(database(env), (db) => work(createOutboxOperations(db), service));
}

function changed(count: number, word: string, service: string, id: bigint): Answer {
  if (count === 0) throw outboxEventNotFound(service, id, word);
  return { text: `event ${id} of ${service} ${word}`, data: { service, id: String(id), [word]: count } };
}

function stateOf({ state }: Given): OutboxEventState | undefined {
  if (state === undefined) return undefined;
  if (!STATES.has(state)) throw new UsageError(`--state is one of ${[...STATES].join(", ")}, and not ${state}`);
  return state as OutboxEventState;
}

function idOf(command: string, { id }: Given): bigint {
  if (id === undefined) throw new UsageError(`${command} needs --id: the number that list shows`);
  return numberOf("id", id);
}

function numberOf(option: string, text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new UsageError(`--${option} is a number that list shows, and not ${text}`);
  return BigInt(text);
}

/** JSON has no numbers that large. */
function toData(event: OutboxEvent) {
  return { ...event, id: String(event.id), due: event.due ?? null, lastError: event.lastError ?? null };
}

function toWholeData({ envelope, ...event }: WholeOutboxEvent, message: ReturnType<typeof contentOf>) {
  const { source, contentType, mustBeRouted, context } = envelope;
  return { ...toData(event), source, contentType, mustBeRouted, context, message };
}
