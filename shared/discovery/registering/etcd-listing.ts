import { z } from "zod";
import type { EtcdTarget } from "../addresses/target.ts";
import type { EtcdConfig } from "../config.ts";
import { createEtcdClient, toBase64 } from "../registries/etcd-client.ts";
import { keyOf, namingValue } from "../registries/etcd-naming.ts";
import { RegistryError } from "../registries/registry-error.ts";
import type { RegistrationConfig } from "./config.ts";
import type { Listing } from "./registration.ts";

const granted = z.object({ ID: z.string() });
/** A stream of one answer. Without a TTL the lease is gone. */
const keptAlive = z.object({ result: z.object({ TTL: z.string().optional() }) });
const counted = z.object({ count: z.string().optional() });
const done = z.object({});

const NOT_FOUND = 404;

/** A key with a lease: the key goes with it. */
export function createEtcdListing(
  { service }: EtcdTarget,
  { advertise, weight, ttlMs }: RegistrationConfig,
  config: EtcdConfig,
): Listing {
  const client = createEtcdClient(config);
  const key = toBase64(keyOf(service, advertise));
  const value = toBase64(namingValue({ address: advertise, weight }));
  let lease: string | undefined;

  async function isAlive(id: string, signal: AbortSignal): Promise<boolean> {
    const { result } = await client.call("/v3/lease/keepalive", { ID: id }, keptAlive, signal);
    return result.TTL !== undefined && result.TTL !== "0";
  }

  return {
    async register(signal) {
      // In whole seconds; etcd lengthens one that is shorter than its elections take.
      lease = (await client.call("/v3/lease/grant", { TTL: String(ttlMs / 1_000) }, granted, signal)).ID;
      await client.call("/v3/kv/put", { key, value, lease }, done, signal);
    },
    async renew(signal) {
      if (lease === undefined || !(await isAlive(lease, signal))) return false;
      // Someone may have deleted it; one that another process has put in its place stays.
      const { count = "0" } = await client.call("/v3/kv/range", { key, count_only: true }, counted, signal);
      return count !== "0";
    },
    async withdraw(signal) {
      if (lease === undefined) return;
      try {
        await client.call("/v3/lease/revoke", { ID: lease }, done, signal);
      } catch (error) {
        // It has lapsed already.
        if (!(error instanceof RegistryError) || error.status !== NOT_FOUND) throw error;
      }
    },
  };
}
