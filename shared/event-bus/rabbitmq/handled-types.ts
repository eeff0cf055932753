import type { Channel } from "rabbitmq-client";
import { bounded } from "#shared/timing";
import { busUnavailable } from "../errors.ts";
import { declarationError } from "./topology.ts";

/**
 * Name of the exchange by which the versions of a service tell each other which types they handle. Each version binds the
 * work queue to it by its types. A message of a type that one version does not know is published here: the broker returns
 * it when no version has a handler.
 */
export function handledTypesExchangeOf(queue: string): string {
  return `${queue}.types`;
}

/** @throws TopologyError; DomainError EVENT_BUS_UNAVAILABLE */
export async function declareHandledTypes(
  open: () => Promise<Channel>,
  queue: string,
  types: readonly string[],
  timeoutMs: number,
): Promise<void> {
  const channel = await open();
  const exchange = handledTypesExchangeOf(queue);
  const work = (async () => {
    await channel.exchangeDeclare({ exchange, type: "direct", durable: true });
    for (const routingKey of types) await channel.queueBind({ queue, exchange, routingKey });
  })();
  const outcome = await bounded(work, timeoutMs);
  await bounded(channel.close(), timeoutMs);
  if (outcome.kind === "overran") throw busUnavailable("the broker does not answer a declaration");
  if (outcome.kind === "failed") throw declarationError(outcome.cause);
}
