import type { ServerResponse } from "node:http";
import { answer, type FakeRegistry, startFakeRegistry } from "./fake-registry.ts";

export interface FakeSlice {
  readonly name: string;
  readonly service: string;
  readonly addressType?: "IPv4" | "IPv6";
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  /** `ready` undefined: the condition is not there. */
  readonly endpoints: readonly { readonly address: string; readonly ready?: boolean }[];
}

/**
 * Speaks as much of the API of EndpointSlices as the client uses, by its documentation: list, watch from a version on,
 * bookmarks, "410 Gone". No real Kubernetes.
 */
export interface FakeKubernetes extends FakeRegistry {
  /** What was asked, in order. */
  readonly asked: readonly URL[];
  /** `authorization` of what was asked. */
  readonly authorizations: readonly (string | undefined)[];
  readonly namespace: string;
  put(slice: FakeSlice): void;
  delete(name: string): void;
  bookmark(): void;
  /** Ends the watches in peace, as after `timeoutSeconds`. */
  endWatches(): void;
  /** Forgets what was changed up to now: a watch from an earlier version is "410 Gone". */
  compact(): void;
  /** Tells the watches that they are gone. */
  expireWatches(): void;
}

const GONE = { kind: "Status", status: "Failure", reason: "Expired", code: 410, message: "too old resource version" };

interface Change {
  readonly version: number;
  readonly type: string;
  readonly object: unknown;
  readonly service: string;
}

export async function startFakeKubernetes(namespace: string): Promise<FakeKubernetes> {
  const slices = new Map<string, FakeSlice>();
  const asked: URL[] = [];
  const authorizations: (string | undefined)[] = [];
  const watches = new Map<ServerResponse, string>();
  let changes: Change[] = [];
  let version = 100;
  let oldest = 100;

  const send = (response: ServerResponse, { type, object }: Pick<Change, "type" | "object">) =>
    response.write(`${JSON.stringify({ type, object })}\n`);

  function change(type: string, slice: FakeSlice): void {
    version++;
    const made = { version, type, object: objectOf(slice, version), service: slice.service };
    changes.push(made);
    for (const [response, service] of watches) if (service === slice.service) send(response, made);
  }

  const fake = await startFakeRegistry((url, request, response) => {
    asked.push(url);
    authorizations.push(request.headers.authorization);
    const [, service = ""] =
      /^kubernetes\.io\/service-name=(.+)$/.exec(url.searchParams.get("labelSelector") ?? "") ?? [];
    if (url.pathname !== `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`) {
      response.writeHead(404).end();
      return;
    }
    if (url.searchParams.get("watch") !== "1") {
      const items = [...slices.values()].filter((slice) => slice.service === service);
      answer(response, {
        kind: "EndpointSliceList",
        metadata: { resourceVersion: String(version) },
        items: items.length === 0 ? null : items.map((slice) => objectOf(slice, version)),
      });
      return;
    }
    const from = Number(url.searchParams.get("resourceVersion"));
    if (from < oldest) {
      response.writeHead(410, { "content-type": "application/json" }).end(JSON.stringify(GONE));
      return;
    }
    response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
    for (const made of changes) if (made.version > from && made.service === service) send(response, made);
    watches.set(response, service);
    response.on("close", () => watches.delete(response));
  });
  return {
    ...fake,
    asked,
    authorizations,
    namespace,
    put(slice) {
      const type = slices.has(slice.name) ? "MODIFIED" : "ADDED";
      slices.set(slice.name, slice);
      change(type, slice);
    },
    delete(name) {
      const slice = slices.get(name);
      if (slice === undefined) return;
      slices.delete(name);
      change("DELETED", slice);
    },
    bookmark() {
      version++;
      const object = { kind: "EndpointSlice", metadata: { resourceVersion: String(version) } };
      for (const response of watches.keys()) send(response, { type: "BOOKMARK", object });
    },
    endWatches() {
      for (const response of watches.keys()) response.end();
    },
    compact() {
      version++;
      oldest = version;
      changes = [];
    },
    expireWatches() {
      for (const response of watches.keys()) {
        send(response, { type: "ERROR", object: GONE });
        response.end();
      }
    },
  };
}

function objectOf({ name, service, addressType = "IPv4", ports, endpoints }: FakeSlice, version: number) {
  return {
    kind: "EndpointSlice",
    apiVersion: "discovery.k8s.io/v1",
    metadata: { name, labels: { "kubernetes.io/service-name": service }, resourceVersion: String(version) },
    addressType,
    ports: ports.map((port) => ({ ...port, protocol: "TCP" })),
    endpoints: endpoints.map(({ address, ready }) => ({
      addresses: [address],
      conditions: ready === undefined ? {} : { ready },
    })),
  };
}
