import { answer, type FakeRegistry, readJson, startFakeRegistry } from "./fake-registry.ts";

export interface FakeService {
  readonly ID: string;
  readonly Name: string;
  readonly Address: string;
  readonly Port: number;
  readonly Tags?: readonly string[];
  readonly Weights?: { readonly Passing: number; readonly Warning: number };
  readonly Check?: { readonly CheckID: string; readonly TTL: string; readonly DeregisterCriticalServiceAfter: string };
}

/**
 * Speaks as much of an agent's HTTP API as the client uses, by its documentation: blocking queries, services, checks with a
 * TTL. No real Consul: its checks do not run out.
 */
export interface FakeConsul extends FakeRegistry {
  readonly services: ReadonlyMap<string, FakeService>;
  /** What was asked: `GET /v1/health/service/book?passing=1`, in order. */
  readonly asked: readonly string[];
  /** The tokens that came. */
  readonly tokens: ReadonlySet<string | undefined>;
  /** Lists exactly these. */
  set(services: readonly FakeService[]): void;
  /** Begins its index anew, as an agent does whose data was restored. */
  resetIndex(): void;
  /** How many times a check was passed. */
  passes(): number;
}

const NODE_ADDRESS = "10.9.9.9";

export async function startFakeConsul(): Promise<FakeConsul> {
  const services = new Map<string, FakeService>();
  const asked: string[] = [];
  const tokens = new Set<string | undefined>();
  const blocked = new Set<() => void>();
  let index = 10;
  let passes = 0;

  function changed(): void {
    index += 1;
    for (const release of blocked) release();
  }

  function health(name: string, tag: string | null) {
    const all = [...services.values()].filter((one) => one.Name === name);
    return all
      .filter(({ Tags = [] }) => tag === null || Tags.includes(tag))
      .map((Service) => ({ Node: { Node: "node", Address: NODE_ADDRESS }, Service, Checks: [] }));
  }

  const fake = await startFakeRegistry(async (url, request, response) => {
    const path = decodeURIComponent(url.pathname);
    asked.push(`${request.method} ${path}${url.search}`);
    tokens.add(request.headers["x-consul-token"] as string | undefined);
    const [, name] = /^\/v1\/health\/service\/(.+)$/.exec(path) ?? [];
    const [, checkId] = /^\/v1\/agent\/check\/pass\/(.+)$/.exec(path) ?? [];
    const [, id] = /^\/v1\/agent\/service\/deregister\/(.+)$/.exec(path) ?? [];
    if (request.method === "GET" && name !== undefined) {
      const reply = () =>
        answer(response, health(name, url.searchParams.get("tag")), { "x-consul-index": String(index) });
      if (Number(url.searchParams.get("index") ?? 0) !== index) return reply();
      const release = () => {
        blocked.delete(release);
        if (!response.destroyed) reply();
      };
      blocked.add(release);
      response.on("close", () => blocked.delete(release));
    } else if (path === "/v1/agent/service/register") {
      const service = (await readJson(request)) as FakeService;
      services.set(service.ID, service);
      changed();
      response.end();
    } else if (checkId !== undefined) {
      if (![...services.values()].some(({ Check }) => Check?.CheckID === checkId)) {
        response.writeHead(404).end(`Unknown check ID "${checkId}"`);
        return;
      }
      passes++;
      response.end();
    } else if (id !== undefined) {
      if (!services.delete(id)) response.writeHead(404).end(`Unknown service ID "${id}"`);
      else response.end();
      changed();
    } else {
      response.writeHead(404).end();
    }
  });
  return {
    ...fake,
    services,
    asked,
    tokens,
    passes: () => passes,
    set(latest) {
      services.clear();
      for (const service of latest) services.set(service.ID, service);
      changed();
    },
    resetIndex() {
      index = 0;
      changed();
    },
  };
}
