import { loadPeer, type PeerClient } from "../peers/peer.ts";
import { scenarios } from "../scenarios.ts";
import { variants } from "../variants.ts";
import { callOf, runLoad } from "./load.ts";
import type { Asks, Memory, Question, Reply, Role } from "./messages.ts";

/** One process of the benchmark: a server, a gateway or a client, which does what its parent asks for. */
const role = process.argv[2] as Role;
let client: PeerClient | undefined;

async function answer({ kind, ask }: Question): Promise<unknown> {
  switch (kind) {
    case "start":
      return await start(ask as Asks["start"]["ask"]);
    case "load":
      return await load(ask as Asks["load"]["ask"]);
    case "cpu": {
      const { user, system } = process.cpuUsage();
      return user + system;
    }
    case "memory":
      return memory();
    case "heap":
      return heap(ask as Asks["heap"]["ask"]);
  }
}

async function start({ variant, port }: Asks["start"]["ask"]): Promise<number> {
  const { peer, wire } = variants[variant];
  if (role === "gateway") {
    // Here and not above: other processes are to be without it.
    const { startGateway } = await import("../peers/gateway.ts");
    return await startGateway(port);
  }
  const { startServer, createClient } = await loadPeer(peer);
  if (role === "server") return await startServer(wire);
  client = createClient(port, wire);
  return 0;
}

async function load({ scenario, limit }: Asks["load"]["ask"]): Promise<Asks["load"]["answer"]> {
  if (client === undefined) throw new Error("only a client makes calls, once it is started");
  const { kind, inFlight } = scenarios[scenario];
  return await runLoad(callOf(client, kind), inFlight, limit);
}

function memory(): Memory {
  const { rss } = process.memoryUsage();
  globalThis.gc?.();
  return { rssBytes: rss, heapBytes: process.memoryUsage().heapUsed, handles: process.getActiveResourcesInfo().length };
}

/** In bytes, after a collection of everything, or of what is young. */
function heap({ collect }: Asks["heap"]["ask"]): number {
  const type = collect === "all" ? "major" : "minor";
  // What is young has to be seen twice before it is old.
  for (let times = 0; times < 2; times++) globalThis.gc?.({ type, execution: "sync" });
  return process.memoryUsage().heapUsed;
}

async function reply(question: Question): Promise<void> {
  const { id } = question;
  let result: Reply;
  try {
    result = { id, answer: await answer(question) };
  } catch (error) {
    result = { id, error: String(error) };
  }
  process.send?.(result);
}

process.on("message", (question: Question) => void reply(question));
// Its parent wants no more, or is gone.
process.on("disconnect", () => process.exit(0));
// Gone while this was loaded.
if (!process.connected) process.exit(0);
