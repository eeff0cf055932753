import type { DescMessage } from "@bufbuild/protobuf";
import type { RabbitmqConfig } from "./config.ts";
import { eventTypeOf } from "./event-type.ts";
import { takes } from "./routing.ts";

/**
 * Lists the bindings of a queue: the configured pattern, if any, and the routing keys of the handled events that the pattern
 * does not match.
 *
 * @throws TypeError when an event is not declared as one
 */
export function bindingKeysOf(
  pattern: string,
  events: readonly DescMessage[],
  { exchangeType }: Pick<RabbitmqConfig, "exchangeType">,
): readonly string[] {
  const patterns = pattern === "" ? [] : [pattern];
  const keys = events
    .map((schema) => eventTypeOf(schema).routingKey)
    .filter((key) => !patterns.some((one) => takes(exchangeType, one, key)));
  return [...new Set([...patterns, ...keys])];
}
