import { parseArgs } from "node:util";
import { type Result, writeResults } from "../support/results.ts";
import { toTable } from "../support/table.ts";
import { measureConsume } from "./consume.ts";
import { measureLatency } from "./latency.ts";
import { fullPlan, type Plan, quickPlan } from "./plan.ts";
import { measurePublish } from "./publish.ts";
import { measureRelay } from "./relay.ts";
import { openStage, type Stage } from "./stage.ts";
import { findVersions } from "./versions.ts";

/**
 * `npm run bench:events [-- --quick]`: events beside the bare rabbitmq-client, in one run. Ends with 0 whether budgets are
 * met or not, and with 1 when something could not be measured or was lost on the way.
 */
const rabbitmqUrl = process.env["RABBITMQ_URL"] ?? "amqp://guest:guest@127.0.0.1:5672";
const databaseUrl = process.env["DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/test";

async function main(run: "full" | "quick"): Promise<void> {
  const versions = await findVersions(rabbitmqUrl, databaseUrl);
  const stage = await openStage(rabbitmqUrl, databaseUrl);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void leave(stage));
  try {
    const results = await measureAll(stage, run === "quick" ? quickPlan : fullPlan);
    console.log(toTable(results));
    // A quick run is to look at: what is kept comes from full ones.
    if (run === "full") await writeResults("events", { ...versions }, results);
  } finally {
    await stage.close();
  }
}

async function measureAll(stage: Stage, plan: Plan): Promise<Result[]> {
  const results: Result[] = [];
  console.error("publishing …");
  results.push(...(await measurePublish(stage, plan)));
  console.error("consuming …");
  results.push(...(await measureConsume(stage, plan)));
  console.error("relaying …");
  results.push(...(await measureRelay(stage, plan)));
  console.error("committing …");
  results.push(...(await measureLatency(stage, plan)));
  return results;
}

/** Interrupted: nothing is left behind. */
async function leave(stage: Stage): Promise<void> {
  await stage.close().catch((error: unknown) => console.error(error));
  process.exit(130);
}

try {
  const { values } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
  await main(values.quick ? "quick" : "full");
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
