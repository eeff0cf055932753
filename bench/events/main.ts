import { parseArgs } from "node:util";
import { type Result, writeResults } from "../support/results.ts";
import { toTable } from "../support/table.ts";
import { within } from "../support/within.ts";
import { measureConsume } from "./consume.ts";
import { measureLatency } from "./latency.ts";
import { removeLeftovers } from "./leftovers.ts";
import { fullPlan, type Plan, quickPlan } from "./plan.ts";
import { measurePublish } from "./publish.ts";
import { measureRelay } from "./relay.ts";
import { openStage, type Stage } from "./stage.ts";
import { findVersions } from "./versions.ts";

/**
 * `npm run bench:events [-- --quick]`: measures events beside the bare rabbitmq-client, in one run of at most four minutes.
 * The exit code is 0 whether budgets are met or not, and 1 when something could not be measured or was lost on the way.
 */
const rabbitmqUrl = process.env["RABBITMQ_URL"] ?? "amqp://guest:guest@127.0.0.1:5672";
const databaseUrl = process.env["DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

/** Less than four minutes with what `Stage.close` may take. */
const LIMIT_MS = 200_000;

async function main(run: "full" | "quick"): Promise<void> {
  const versions = await findVersions(rabbitmqUrl, databaseUrl);
  const leftovers = await removeLeftovers(rabbitmqUrl, databaseUrl);
  if (leftovers.length > 0) console.error(`removed what killed runs have left: ${leftovers.join(", ")}`);
  const stage = await openStage(rabbitmqUrl, databaseUrl);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void leave(stage));
  try {
    const plan = run === "quick" ? quickPlan : fullPlan;
    const results = await within(LIMIT_MS, "all measurements", measureAll(stage, plan));
    console.log(toTable(results));
    // Only full runs are kept.
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

/** Removes what the run has made, and ends it. */
async function leave(stage: Stage): Promise<never> {
  await stage.close().catch((error: unknown) => console.error(error));
  process.exit(130);
}

try {
  const { values } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
  await main(values.quick ? "quick" : "full");
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  // What a measurement has left open ends with it.
  process.exit(1);
}
