/** Number of parts of an outbox. One relay at a time holds a part, so that the order of each key is kept. */
export const SHARDS = 16;

/** Shard of the events with this key. It must never change: all versions of a service share the table. FNV-1a, 32 bits. */
export function shardOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) {
    hash ^= key.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193);
  }
  return (hash >>> 0) % SHARDS;
}
