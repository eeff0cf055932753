/** Into how many parts an outbox is cut. One relay at a time has a part, so that each key's order is kept. */
export const SHARDS = 16;

/** Where events with this key lie: the same for ever, since releases of a service share the table. FNV-1a, 32 bits. */
export function shardOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) {
    hash ^= key.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193);
  }
  return (hash >>> 0) % SHARDS;
}
