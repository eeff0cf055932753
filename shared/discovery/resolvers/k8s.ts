import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { K8sTarget } from "../addresses/target.ts";
import type { K8sConfig } from "../config.ts";
import { endpointsOf, type Slice, slice } from "../registries/endpoint-slices.ts";
import { type HttpRequest, request, stream, type TlsFiles } from "../registries/http-client.ts";
import { RegistryError, readAnswer } from "../registries/registry-error.ts";
import type { Source } from "../resolving/source.ts";

const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
const ACCOUNT_CA = `${ACCOUNT}/ca.crt`;
const TIMEOUT_MS = 5_000;
/** Then the server ends the watch, and another one goes on where it was. */
const WATCH_S = 300;
const GONE = 410;

const list = z.object({ metadata: z.object({ resourceVersion: z.string() }), items: z.array(slice).nullable() });
const versioned = z.object({ metadata: z.object({ resourceVersion: z.string() }) });
const status = z.object({ code: z.number().optional(), message: z.string().optional() });
const watchEvent = z.object({ type: z.string(), object: z.unknown() });

/**
 * The ready endpoints of a service's EndpointSlices (discovery.k8s.io/v1): a list, then watches from its version on; after
 * "410 Gone" the list again. A pod with IPv4 and IPv6 counts twice. The service account must be allowed to `list` and
 * `watch` `endpointslices`. Tested against a server that speaks as Kubernetes' documentation says, not against a real one:
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
export function createK8sSource({ service, namespace, port }: K8sTarget, config: K8sConfig): Source {
  function tls(): TlsFiles {
    const caFile = config.caFile ?? ACCOUNT_CA;
    return config.caFile !== undefined || existsSync(caFile) ? { caFile } : {};
  }

  async function get(query: Record<string, string>, signal: AbortSignal): Promise<HttpRequest> {
    const inNamespace = namespace ?? config.namespace ?? (await readFile(`${ACCOUNT}/namespace`, "utf8")).trim();
    const parameters = new URLSearchParams({ labelSelector: `kubernetes.io/service-name=${service}`, ...query });
    return {
      method: "GET",
      base: config.apiServer,
      path: `/apis/discovery.k8s.io/v1/namespaces/${encodeURIComponent(inNamespace)}/endpointslices?${parameters}`,
      headers: await authorization(config.tokenFile),
      timeoutMs: TIMEOUT_MS,
      signal,
    };
  }

  return {
    pauseMs: 0,
    async follow(found, signal) {
      const slices = new Map<string, Slice>();
      const listed = readAnswer(list, (await request(await get({}, signal), tls())).body, config.apiServer);
      for (const item of listed.items ?? []) slices.set(item.metadata.name, item);
      found(endpointsOf([...slices.values()], port));

      let { resourceVersion } = listed.metadata;
      while (!signal.aborted) {
        const begunAt = resourceVersion;
        const query = { watch: "1", allowWatchBookmarks: "true", timeoutSeconds: String(WATCH_S), resourceVersion };
        const events = await unlessGone(stream(await get(query, signal), tls()));
        if (events === undefined) return;
        for await (const event of events) {
          const { type, object } = readAnswer(watchEvent, event, config.apiServer);
          if (type === "ERROR") {
            const { code, message } = readAnswer(status, object, config.apiServer);
            if (code === GONE) return;
            throw new RegistryError(`${config.apiServer} ended a watch: ${message ?? "no reason given"}`);
          }
          ({ resourceVersion } = readAnswer(versioned, object, config.apiServer).metadata);
          if (type === "BOOKMARK") continue;
          const changed = readAnswer(slice, object, config.apiServer);
          if (type === "DELETED") slices.delete(changed.metadata.name);
          else slices.set(changed.metadata.name, changed);
          found(endpointsOf([...slices.values()], port));
        }
        // A watch that came to its end in peace has told at least of a bookmark. Another is not asked for in a hurry.
        if (resourceVersion === begunAt) return;
      }
    },
  };
}

async function authorization(tokenFile: string | undefined): Promise<Record<string, string>> {
  try {
    const token = (await readFile(tokenFile ?? `${ACCOUNT}/token`, "utf8")).trim();
    return { authorization: `Bearer ${token}` };
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (isMissing && tokenFile === undefined) return {};
    throw error;
  }
}

/** Undefined when the version that a watch should begin at is too old. */
async function unlessGone<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof RegistryError && error.status === GONE) return undefined;
    throw error;
  }
}
