/** The exchange types of AMQP. */
export type ExchangeType = "direct" | "fanout" | "topic" | "headers";

/**
 * Whether a binding takes a routing key. In a topic pattern `*` stands for one word and `#` for any number of them. A
 * headers exchange without arguments takes every message, as in RabbitMQ.
 */
export function takes(type: ExchangeType, bindingKey: string, routingKey: string): boolean {
  if (type === "fanout" || type === "headers") return true;
  if (type === "direct") return bindingKey === routingKey;
  return matches(bindingKey.split("."), routingKey.split("."));
}

function matches(pattern: readonly string[], words: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return words.length === 0;
  if (first === "#") return matches(rest, words) || (words.length > 0 && matches(pattern, words.slice(1)));
  return words.length > 0 && (first === "*" || first === words[0]) && matches(rest, words.slice(1));
}
