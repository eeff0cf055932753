import { hash } from "node:crypto";

/**
 * Key of an event in the inbox of a queue: the first 128 bits of a SHA-256 over the queue, the source and the id, as
 * PostgreSQL prints a `uuid`. Lengths stand before the parts, so that no two events give the same text.
 */
export function inboxKey(queue: string, source: string, id: string): string {
  const hex = hash("sha256", `${queue.length}:${queue}${source.length}:${source}${id}`);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
