import type { Limit, Load, Memory, Role } from "./processes/messages.ts";
import { startWorker, type Worker } from "./processes/worker.ts";
import type { ScenarioName } from "./scenarios.ts";
import { type VariantName, variants } from "./variants.ts";

/** The processes of one variant, connected. */
export interface Line {
  readonly variant: VariantName;
  /** Keeps the client busy. */
  run(limit: Limit): Promise<Round>;
  memory(): Promise<SideMemory>;
  /** Bytes that each of so many calls leaves behind for a full collection: those that collections of the young do not free. */
  residue(calls: number): Promise<Sides<number>>;
  end(): Promise<void>;
}

/** What one round of one variant came to. */
export interface Round extends Omit<Load, "cpuMicros" | "operations"> {
  /** User and system time for one operation. */
  readonly cpuMicros: Sides<number>;
}

/** One value for each process. */
export type Sides<Value> = Readonly<Record<"server" | "client", Value>> & { readonly gateway?: Value };
export type SideMemory = Sides<Memory>;

export interface LineOptions {
  readonly variant: VariantName;
  readonly scenario: ScenarioName;
  /** For Node, by what the process is. */
  readonly execArgvOf: (role: Role) => readonly string[];
}

const LOAD_PATIENCE_MS = 10 * 60_000;

export async function openLine({ variant, scenario, execArgvOf }: LineOptions): Promise<Line> {
  const workers: Worker[] = [];
  const start = (role: Role): Worker => {
    const worker = startWorker({ role, execArgv: execArgvOf(role) });
    workers.push(worker);
    return worker;
  };
  const end = async (): Promise<void> => {
    // The client first: nobody is left without a peer in the middle of a call.
    for (const worker of workers.toReversed()) await worker.end();
  };

  try {
    const server = start("server");
    const gateway = variants[variant].gateway ? start("gateway") : undefined;
    const client = start("client");
    let port = await server.ask("start", { variant, port: 0 });
    if (gateway !== undefined) port = await gateway.ask("start", { variant, port });
    await client.ask("start", { variant, port });

    const everySide = async <Value>(of: (worker: Worker) => Promise<Value>): Promise<Sides<Value>> => ({
      server: await of(server),
      client: await of(client),
      ...(gateway === undefined ? {} : { gateway: await of(gateway) }),
    });

    return {
      variant,
      async run(limit) {
        const before = await everySide((worker) => worker.ask("cpu", {}));
        const load = await client.ask("load", { scenario, limit }, LOAD_PATIENCE_MS);
        const after = await everySide((worker) => worker.ask("cpu", {}));
        return toRound(load, before, after);
      },
      memory: () => everySide((worker) => worker.ask("memory", {})),
      async residue(calls) {
        const before = await everySide((worker) => worker.ask("heap", { collect: "all" }));
        await client.ask("load", { scenario, limit: { calls } }, LOAD_PATIENCE_MS);
        const after = await everySide((worker) => worker.ask("heap", { collect: "young" }));
        const of = (role: "server" | "client") => (after[role] - before[role]) / calls;
        return { server: of("server"), client: of("client") };
      },
      end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** The client's own time is what it took itself: without what it took to say so. */
function toRound(load: Load, before: Sides<number>, after: Sides<number>): Round {
  const { cpuMicros: client, operations, ...rest } = load;
  const gateway = (after.gateway ?? Number.NaN) - (before.gateway ?? Number.NaN);
  const cpuMicros = {
    server: (after.server - before.server) / operations,
    client,
    ...(Number.isNaN(gateway) ? {} : { gateway: gateway / operations }),
  };
  return { ...rest, cpuMicros };
}
