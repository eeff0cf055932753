import type { OutboxEvent, WholeOutboxEvent } from "#shared/event-bus";
import type { DeadLetter } from "./dead-letter.ts";
import type { DeadLetterList } from "./dead-letters.ts";
import { oneLine, shortened, table } from "./table.ts";
import type { Standing, TopologyReport } from "./topology-report.ts";
import type { WholeDeadLetter } from "./whole-dead-letter.ts";

const NONE = "–";

/** For people; programs take the data as JSON. */
export function deadLettersText({ deadLetterQueue, deadLetters, more }: DeadLetterList): string {
  if (deadLetters.length === 0) return `${deadLetterQueue} is empty`;
  const rows = deadLetters.map((letter) => [
    letter.id ?? NONE,
    letter.type || NONE,
    letter.reason || NONE,
    String(letter.attempts),
    letter.deadSince ?? NONE,
    letter.routingKey || NONE,
    shortened(errorOf(letter), 60) || NONE,
  ]);
  const text = table(["ID", "TYPE", "REASON", "ATTEMPTS", "DEAD SINCE", "ROUTING KEY", "ERROR"], rows);
  return more === 0 ? text : `${text}\nand ${more} more: --limit`;
}

/** The broker keeps no error: of what a consumer could not move, the consumer has logged it. */
function errorOf({ error, by, reason }: DeadLetter): string {
  return by === "broker" && reason === "rejected" ? 'in the log: "the event cannot be moved as it is"' : error;
}

export function deadLetterText(letter: WholeDeadLetter): string {
  const { properties, headers, message } = letter;
  return [
    table(["", ""], summaryOf(letter)).trimStart(),
    "",
    ...section("properties", properties),
    ...section("headers", headers),
    ...messageLines(message),
  ].join("\n");
}

export function outboxText(service: string, events: readonly OutboxEvent[], next: bigint | undefined): string {
  if (events.length === 0) return `no events in the outbox of ${service}`;
  const rows = events.map(({ id, type, state, due, attempts, key, time, lastError = "" }) => [
    String(id),
    type,
    state,
    due?.toISOString() ?? NONE,
    String(attempts),
    shortened(key, 40) || NONE,
    time.toISOString(),
    shortened(lastError, 60) || NONE,
  ]);
  const text = table(["ID", "TYPE", "STATE", "DUE", "ATTEMPTS", "KEY", "TIME", "ERROR"], rows);
  return next === undefined ? text : `${text}\nmore may follow: --after ${next}`;
}

export function outboxEventText(event: WholeOutboxEvent, message: WholeDeadLetter["message"]): string {
  const { envelope, due, time, lastError, ...rest } = event;
  const { source, contentType, mustBeRouted, context } = envelope;
  const values = { ...rest, id: String(rest.id), due: due?.toISOString() ?? NONE, time: time.toISOString() };
  return [
    ...section("event", { ...values, lastError: lastError ?? NONE, source, contentType, mustBeRouted }),
    ...section("context", context),
    ...messageLines(message),
  ].join("\n");
}

function messageLines(message: WholeDeadLetter["message"]): string[] {
  if (message.kind === "event") return [`message (${message.type})`, printableJson(message.json)];
  return [`message, in base64 (${oneLine(message.why)})`, message.base64];
}

/** JSON leaves some control characters as they are. */
function printableJson(json: unknown): string {
  return JSON.stringify(json, undefined, 2).replace(/(?!\n)[\p{Cc}\p{Cf}]/gu, (character) =>
    character
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}

function summaryOf(letter: DeadLetter): [string, string][] {
  const by = { consumer: ", says the consumer", broker: ", says the broker" };
  return [
    ["id", letter.id ?? NONE],
    ["type", letter.type || NONE],
    ["reason", letter.reason === "" ? NONE : letter.reason + (letter.by === null ? "" : by[letter.by])],
    ["error", errorOf(letter) || NONE],
    ["attempts", String(letter.attempts)],
    ...(letter.deaths === null ? [] : [["deaths", String(letter.deaths)] as [string, string]]),
    ["dead since", letter.deadSince ?? NONE],
    ["exchange", letter.exchange || NONE],
    ["routing key", letter.routingKey || NONE],
    ["time", letter.time ?? NONE],
    ["source", letter.source || NONE],
    ["key", letter.key || NONE],
  ];
}

function section(title: string, values: Readonly<Record<string, unknown>>): string[] {
  const lines = Object.entries(values).map(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return `  ${oneLine(name)}: ${oneLine(text)}`;
  });
  return lines.length === 0 ? [] : [title, ...lines, ""];
}

export function topologyText(service: string, address: string, { exchange, queues, bindings }: TopologyReport): string {
  const words = ["durable", "auto-delete"].filter((_, i) => [exchange.durable, exchange.autoDelete][i]);
  const rows = queues.map(({ name, role, standing, messages, consumers }) => [
    name,
    role,
    standing.state,
    messages === null ? NONE : String(messages),
    consumers === null ? NONE : String(consumers),
  ]);
  return [
    `${service} at ${address}`,
    `exchange ${exchange.name} (${[exchange.type, ...words].join(", ")}): ${exchange.standing.state}`,
    table(["QUEUE", "ROLE", "STATE", "MESSAGES", "CONSUMERS"], rows),
    ...[exchange, ...queues].flatMap(({ name, standing }) => saidOf(name, standing)),
    "as configured",
    ...queues.map(({ name, arguments: given }) => `  ${name}: ${argumentsText(given)}`),
    ...bindings.map(({ queue, exchange: from, routingKey }) => `  ${from} → ${queue}: ${routingKey}`),
  ].join("\n");
}

function argumentsText(given: Readonly<Record<string, unknown>>): string {
  return Object.entries(given)
    .map(([name, value]) => `${name}=${value === "" ? '""' : value}`)
    .join(" ");
}

/** What follows the reports, since it holds for all of them. */
export const TOPOLOGY_LIMITS = `Bindings are what the configuration says: AMQP cannot read those that there are, nor list queues. Retry queues of delays
that were configured before may still be there, with messages.`;

function saidOf(name: string, standing: Standing): string[] {
  return "said" in standing ? [`${name} ${standing.state}: ${oneLine(standing.said)}`] : [];
}
