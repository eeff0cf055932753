import type { AsyncMessage } from "rabbitmq-client";
import { HEADERS } from "./amqp-message.ts";

/** An entry of the `x-death` header: RabbitMQ's record of dead-lettering, the latest first. */
export interface Death {
  readonly reason?: unknown;
  readonly count?: unknown;
  readonly time?: unknown;
  readonly exchange?: unknown;
  readonly "routing-keys"?: unknown;
}

/**
 * Where a message was published first: our headers say so from the first move on. A message that only the broker has moved,
 * which publishes to the default exchange, has it in its oldest death.
 */
export function originOf(message: Pick<AsyncMessage, "exchange" | "routingKey" | "headers">): {
  readonly exchange: string;
  readonly routingKey: string;
} {
  const { exchange, routingKey, headers = {} } = message;
  if (HEADERS.originRoutingKey in headers) {
    return { exchange: text(headers[HEADERS.originExchange]), routingKey: text(headers[HEADERS.originRoutingKey]) };
  }
  const first = deathsOf(message).at(-1);
  if (first === undefined || exchange !== "") return { exchange, routingKey };
  const [key] = Array.isArray(first["routing-keys"]) ? (first["routing-keys"] as readonly unknown[]) : [];
  return { exchange: text(first.exchange), routingKey: text(key) };
}

export function deathsOf({ headers = {} }: Pick<AsyncMessage, "headers">): readonly Death[] {
  const deaths: unknown = headers["x-death"];
  return Array.isArray(deaths) ? (deaths as readonly Death[]) : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
