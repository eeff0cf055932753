import { type Broker, openBroker } from "./broker.ts";
import { catalogueOf } from "./catalogue.ts";
import { catalogueMarkdown } from "./catalogue-markdown.ts";
import { type Answer, type Command, type Given, UsageError } from "./command-types.ts";
import {
  type DeadLettersMoved,
  dropDeadLetters,
  listDeadLetters,
  redriveDeadLetters,
  showDeadLetter,
} from "./dead-letters.ts";
import { buildDescriptorSet } from "./descriptor-set.ts";
import { outboxCommandsOf } from "./outbox-commands.ts";
import { configAmongAll, type Env, type EventsSetup, urlOf, urlOfQueue } from "./setup.ts";
import { deadLettersText, deadLetterText, TOPOLOGY_LIMITS, topologyText } from "./text.ts";
import { topologyReport } from "./topology-report.ts";
import { decoderOf } from "./whole-dead-letter.ts";

const CLOSE_TIMEOUT_MS = 2_000;

export function commandsOf(setup: EventsSetup): Readonly<Record<string, Command>> {
  return {
    "dead-letters list": {
      options: ["queue", "limit", "url"],
      run: (given, env) =>
        onQueue(given, env, setup, async (broker, queue) => {
          const list = await listDeadLetters(broker, { queue, limit: given.limit });
          return { text: deadLettersText(list), data: list };
        }),
    },
    "dead-letters show": {
      options: ["queue", "id", "url"],
      async run(given, env) {
        const { id } = given;
        if (id === undefined) throw new UsageError("show needs --id");
        return onQueue(given, env, setup, async (broker, queue) => {
          const letter = await showDeadLetter(broker, { queue, id, decode: decoderOf(setup.files) });
          return { text: deadLetterText(letter), data: letter };
        });
      },
    },
    "dead-letters redrive": {
      options: ["queue", "id", "limit", "url"],
      async run(given, env) {
        const { id, limit } = given;
        if (id !== undefined && limit !== undefined) throw new UsageError("redrive takes --id or --limit, not both");
        return onQueue(given, env, setup, async (broker, queue) =>
          movedAnswer(await redriveDeadLetters(broker, { queue, id, limit }), queue, "redriven"),
        );
      },
    },
    "dead-letters drop": {
      options: ["queue", "id", "all", "url"],
      async run(given, env) {
        const { id, all = false } = given;
        if (all === (id !== undefined)) throw new UsageError("drop needs either --id or --all");
        return onQueue(given, env, setup, async (broker, queue) =>
          movedAnswer(await dropDeadLetters(broker, { queue, id }), queue, "dropped"),
        );
      },
    },
    ...outboxCommandsOf(setup),
    topology: { options: ["service", "url"], run: (given, env) => topology(given, env, setup) },
    catalogue: {
      options: [],
      async run() {
        const catalogue = catalogueOf(await buildDescriptorSet(setup.protoFolder), setup.files);
        return { text: catalogueMarkdown(catalogue), data: catalogue };
      },
    },
  };
}

function movedAnswer({ done, of, failure }: DeadLettersMoved, queue: string, word: string): Answer {
  const text = `${done} of ${of} ${of === 1 ? "dead letter" : "dead letters"} of ${queue} ${word}`;
  return { text, data: { queue, [word]: done, of }, ...(failure !== undefined && { failure }) };
}

async function topology({ service, url }: Given, env: Env, { services }: EventsSetup): Promise<Answer> {
  if (service !== undefined && !Object.hasOwn(services, service)) {
    throw new UsageError(`there is no service ${service}, but ${Object.keys(services).join(", ")}`);
  }
  const texts: string[] = [];
  const data: Record<string, unknown> = {};
  for (const [name, one] of Object.entries(services)) {
    if (service !== undefined && name !== service) continue;
    const config = service === undefined ? configAmongAll(one, env) : one.rabbitmq(env);
    if (config === undefined) {
      texts.push(`${name} has no rabbitmq in its configuration`);
      data[name] = null;
      continue;
    }
    await withBroker(url ?? urlOf(env, config, name), async (broker) => {
      const report = await topologyReport(broker, { config, handles: one.handles ?? [] });
      texts.push(topologyText(name, broker.address, report));
      data[name] = { broker: broker.address, ...report };
    });
  }
  return { text: [...texts, TOPOLOGY_LIMITS].join("\n\n"), data };
}

async function onQueue(
  { queue, url }: Given,
  env: Env,
  setup: EventsSetup,
  work: (broker: Broker, queue: string) => Promise<Answer>,
): Promise<Answer> {
  if (queue === undefined || queue === "") throw new UsageError("whose dead letters? --queue");
  return withBroker(url ?? urlOfQueue(env, setup, queue), (broker) => work(broker, queue));
}

async function withBroker<T>(url: string, work: (broker: Broker) => Promise<T>): Promise<T> {
  const broker = await openBroker(url);
  try {
    return await work(broker);
  } finally {
    await broker.close(CLOSE_TIMEOUT_MS);
  }
}
