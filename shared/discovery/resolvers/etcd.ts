import { z } from "zod";
import type { Logger } from "#shared/logging";
import type { Endpoint } from "../addresses/endpoint.ts";
import type { EtcdTarget } from "../addresses/target.ts";
import type { EtcdConfig } from "../config.ts";
import { createEtcdClient, fromBase64 } from "../registries/etcd-client.ts";
import { endpointOf, rangeOf } from "../registries/etcd-naming.ts";
import { RegistryError } from "../registries/registry-error.ts";
import type { Source } from "../resolving/source.ts";

/** After this all keys are read again: for a watch that is silent though it should not be. */
const WATCH_MS = 10 * 60_000;

const header = z.object({ revision: z.string().optional() });
const keyValue = z.object({ key: z.string(), value: z.string().default("") });
const range = z.object({ header, kvs: z.array(keyValue).default([]) });
const watched = z.object({
  header,
  canceled: z.boolean().default(false),
  cancel_reason: z.string().optional(),
  compact_revision: z.string().optional(),
  events: z.array(z.object({ type: z.string().default("PUT"), kv: keyValue })).default([]),
});

/**
 * Reads the service's keys, then watches them from the revision after. A watch that ends, whatever for (a compaction, a member
 * that has lost its leader, a lost connection), begins anew with the keys.
 */
export function createEtcdSource(
  { service, text }: EtcdTarget,
  config: EtcdConfig,
  logger: Pick<Logger, "warn">,
): Source {
  const client = createEtcdClient(config);
  const unreadable = new Set<string>();

  function read({ key, value }: z.output<typeof keyValue>): Endpoint | undefined {
    const endpoint = endpointOf(fromBase64(value));
    if (endpoint !== undefined) unreadable.delete(key);
    else if (!unreadable.has(key)) {
      unreadable.add(key);
      logger.warn({ address: text, key: fromBase64(key) }, `${text} has an entry that is no endpoint; it is left out`);
    }
    return endpoint;
  }

  return {
    pauseMs: 0,
    async follow(found, signal) {
      const endpoints = new Map<string, Endpoint>();
      const put = (kv: z.output<typeof keyValue>) => {
        const endpoint = read(kv);
        if (endpoint === undefined) endpoints.delete(kv.key);
        else endpoints.set(kv.key, endpoint);
      };

      const answer = await client.call("/v3/kv/range", rangeOf(service), range, signal);
      for (const kv of answer.kvs) put(kv);
      found([...endpoints.values()]);

      const enough = new AbortController();
      const timer = setTimeout(() => enough.abort(), WATCH_MS);
      timer.unref();
      const from = (BigInt(answer.header.revision ?? "0") + 1n).toString();
      const create = { create_request: { ...rangeOf(service), start_revision: from } };
      try {
        for await (const { canceled, events, ...rest } of client.stream(
          "/v3/watch",
          create,
          watched,
          AbortSignal.any([signal, enough.signal]),
        )) {
          if (canceled) throw new RegistryError(`etcd has canceled the watch of ${text}: ${whyCanceled(rest)}`);
          for (const { type, kv } of events) {
            if (type === "DELETE") endpoints.delete(kv.key);
            else put(kv);
          }
          if (events.length > 0) found([...endpoints.values()]);
        }
      } catch (error) {
        if (enough.signal.aborted && !signal.aborted) return;
        throw error;
      } finally {
        clearTimeout(timer);
      }
      throw new RegistryError(`etcd has ended the watch of ${text}`);
    },
  };
}

function whyCanceled(answer: Pick<z.output<typeof watched>, "cancel_reason" | "compact_revision">): string {
  if (answer.compact_revision !== undefined) return `compacted up to revision ${answer.compact_revision}`;
  return answer.cancel_reason ?? "no reason given";
}
