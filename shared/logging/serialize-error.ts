import { inspect } from "node:util";

/** An error in a log line. */
export interface SerializedError {
  readonly type: string;
  /** The error's message and those of its causes: `cannot sell: connect ECONNREFUSED`. */
  readonly message: string;
  /** The stacks of the error and its causes, with `caused by:` between them. */
  readonly stack: string;
  /** Its own plain fields, such as `code`. */
  readonly [field: string]: unknown;
}

const MAX_CAUSES = 8;
const MAX_ERRORS = 8;
/** Fields that are written otherwise, or that refer to whole schemas (`details` of a ConnectError). */
const SPECIAL_FIELDS = new Set(["type", "message", "stack", "cause", "errors", "details"]);

/**
 * Converts an error with its whole chain of causes to plain JSON. Unlike pino's serializer it keeps causes that are not
 * errors, writes the errors of an AggregateError (Node gives those of a refused connection no message), does not change
 * the error, and leaves out objects that it refers to, such as sockets. Other values are returned unchanged.
 */
export function serializeError(value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const chain = causes(value);
  const serialized: SerializedError = {
    type: value.name === "Error" ? value.constructor.name : value.name,
    message: chain.map(messageOf).join(": "),
    stack: chain.map(stackOf).join("\ncaused by: "),
    ...plainFields(value),
  };
  return serialized;
}

/** Lists the error and its causes, outermost first. A cycle is cut. */
function causes(error: Error): unknown[] {
  const chain: unknown[] = [];
  let next: unknown = error;
  while (next !== undefined && next !== null && chain.length <= MAX_CAUSES && !chain.includes(next)) {
    chain.push(next);
    next = next instanceof Error ? next.cause : undefined;
  }
  return chain;
}

function messageOf(value: unknown): string {
  if (!(value instanceof Error)) return show(value);
  if (!(value instanceof AggregateError)) return value.message;
  const gathered = value.errors.slice(0, MAX_ERRORS).map(messageOf).join("; ");
  return value.message === "" ? gathered : `${value.message} (${gathered})`;
}

function stackOf(value: unknown): string {
  return value instanceof Error ? (value.stack ?? `${value.name}: ${value.message}`) : show(value);
}

function show(value: unknown): string {
  return typeof value === "string" ? value : inspect(value, { depth: 2, breakLength: Number.POSITIVE_INFINITY });
}

/** Fields that are values, or plain objects and lists that are not empty. */
function plainFields(error: Error): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(error)) {
    if (!SPECIAL_FIELDS.has(key) && isPlain(value) && !(key === "name" && value === fields["type"]))
      fields[key] = value;
  }
  return fields;
}

function isPlain(value: unknown): boolean {
  if (value === null || value === undefined || typeof value === "function" || typeof value === "symbol") return false;
  if (typeof value !== "object") return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== Array.prototype && prototype !== null) return false;
  return Object.keys(value).length > 0;
}
