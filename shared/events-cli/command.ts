import { parseArgs } from "node:util";
import { ConfigError } from "#shared/config";
import { DomainError } from "#shared/errors";
import { codeOf } from "#shared/event-bus";
import { textOf } from "./broker.ts";
import { type Answer, type Command, type Given, UsageError } from "./command-types.ts";
import { commandsOf } from "./commands.ts";
import type { Env, EventsSetup } from "./setup.ts";

export interface CommandResult {
  /** 0 when it is done, 1 when it has failed, 64 (EX_USAGE) when it was called wrongly. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const EXIT = { ok: 0, failure: 1, usage: 64 } as const;

const SEE_HELP = "usage: npm run events -- --help";

/** Runs one command about a system's events. Rejects only on a programming error. */
export async function runEventsCommand(args: readonly string[], env: Env, setup: EventsSetup): Promise<CommandResult> {
  if (args.includes("--help") || args.includes("-h")) {
    return { code: EXIT.ok, stdout: usageOf(Object.keys(setup.services)), stderr: "" };
  }
  try {
    const { command, given, json } = parse(args, commandsOf(setup));
    const answer = await command.run(given, env);
    return resultOf(answer, json);
  } catch (error) {
    if (error instanceof UsageError) return { code: EXIT.usage, stdout: "", stderr: `${error.message}\n${SEE_HELP}\n` };
    return { code: EXIT.failure, stdout: "", stderr: `${said(error)}\n` };
  }
}

function usageOf(services: readonly string[]): string {
  return `usage: npm run events -- <command>

dead-letters: what has failed for good
  dead-letters list    --queue <queue> [--limit <n>]              the oldest first, 100 by default: taken from the queue, and put back
  dead-letters show    --queue <queue> --id <id>                  an event with its headers, and its message decoded
  dead-letters redrive --queue <queue> [--id <id> | --limit <n>]  all, one event, or the n oldest: back to the work queue
  dead-letters drop    --queue <queue> (--id <id> | --all)        deleted for ever
outbox: the events that a service has not published yet
  outbox list  --service <service> [--state <state>] [--limit <n>] [--after <id>]
  outbox show  --service <service> --id <id>                      an event with its message decoded
  outbox park  --service <service> --id <id> [--reason <text>]    no longer published, and out of the way of others
  outbox retry --service <service> (--id <id> | --state <state>)  due now: parked, delayed and failed events
  outbox drop  --service <service> --id <id>                      deleted, and never published
topology  [--service <service>]   what is configured beside what is on the broker; ${services.join(", ")}
catalogue                         the events that the protos declare, as Markdown

  --queue  the work queue, without .dead
  --state  pending, delayed, failed, behind (waits for an earlier event of its key) or parked
  --url    the broker's; default RABBITMQ_URL, else rabbitmq.url of the service, or of the one whose queue it is
  --json   for programs, with npm run --silent

outbox opens the database of the service's configuration; DATABASE_URL names another. An embedded one can be opened while
no process has it.

Ends with 0 when it is done, 1 when it has failed, 64 when it was called wrongly.
`;
}

const OPTIONS = {
  queue: { type: "string" },
  id: { type: "string" },
  limit: { type: "string" },
  all: { type: "boolean" },
  service: { type: "string" },
  url: { type: "string" },
  state: { type: "string" },
  after: { type: "string" },
  reason: { type: "string" },
  json: { type: "boolean" },
} as const;

function parse(
  args: readonly string[],
  commands: Readonly<Record<string, Command>>,
): { readonly command: Command; readonly given: Given; readonly json: boolean } {
  const words = args.slice(0, args[0] === "dead-letters" || args[0] === "outbox" ? 2 : 1);
  const name = words.join(" ");
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) throw new UsageError(name === "" ? "which command?" : `there is no command ${name}`);
  const { json = false, limit, ...values } = valuesOf(args.slice(words.length));
  const given = { ...values, ...(limit !== undefined && { limit: numberOf(limit) }) };
  const alien = Object.keys(given).find((option) => !command.options.some((known) => known === option));
  if (alien !== undefined) throw new UsageError(`${name} takes no --${alien}`);
  return { command, given, json };
}

function valuesOf(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values;
  } catch (error) {
    if (!codeOf(error)?.startsWith("ERR_PARSE_ARGS")) throw error;
    throw new UsageError(textOf(error));
  }
}

function numberOf(limit: string): number {
  if (!/^[1-9]\d{0,8}$/.test(limit)) throw new UsageError(`--limit is a whole number from 1 on, and not ${limit}`);
  return Number(limit);
}

function resultOf({ text, data, failure }: Answer, json: boolean): CommandResult {
  const stdout = `${json ? JSON.stringify(data, undefined, 2) : text}\n`;
  if (failure === undefined) return { code: EXIT.ok, stdout, stderr: "" };
  return { code: EXIT.failure, stdout, stderr: `${said(failure)}\n` };
}

/** What an operator can do something about is a line; for anything else, its stack. */
function said(error: unknown): string {
  if (error instanceof DomainError || error instanceof ConfigError || codeOf(error) !== undefined) return textOf(error);
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
