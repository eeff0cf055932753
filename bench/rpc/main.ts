import { mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { resultsFolder, writeLines } from "../support/results.ts";
import { type Arguments, parseArguments } from "./arguments.ts";
import { type Measured, measureStep } from "./measure.ts";
import { createPlan, mainScenario } from "./plan.ts";
import { checkBudgets } from "./reports/budgets.ts";
import { toCpuChart, toSvg } from "./reports/chart.ts";
import { circumstances } from "./reports/circumstances.ts";
import { toEntries } from "./reports/entries.ts";
import { toBudgetTable, toMemoryTable, toScenarioTable } from "./reports/tables.ts";

/**
 * `npm run bench:rpc [-- --quick] [--only meridian,grpc-js] [--scenario unary-small-64] [--cpu-prof]`: calls beside raw
 * HTTP/2, grpc-js and stock Connect, each server and client in a process of its own. Ends with 0 whether budgets are met
 * or not, and with 1 when something could not be measured.
 */
const PROFILES = new URL("../../.data/cpu-prof/", import.meta.url);
const LEGEND = `Each number is the median of the rounds, and so is each ratio: they are not quotients of what stands beside them.
-1 and -64 are calls in flight. meridian has every policy on, meridian-bare none; where no protocol is named it is gRPC.
-full sends a deadline, traceparent and x-request-id with each call, as meridian does.`;
const CHART_TITLE = "CPU time of a unary call, hello-sized, 64 in flight";

async function main({ quick, only, scenarios, cpuProf }: Arguments): Promise<void> {
  const plan = createPlan({ quick, only, scenarios });
  const profiles = cpuProf ? fileURLToPath(PROFILES) : undefined;
  if (profiles !== undefined) await mkdir(profiles, { recursive: true });

  const measured: Measured[] = [];
  for (const step of plan.steps) {
    console.error(`${step.scenario} …`);
    const one = await measureStep(step, plan, { profiles });
    measured.push(one);
    console.log(`${toScenarioTable(one)}\n`);
  }
  console.log(`${LEGEND}\n`);
  for (const table of [toMemoryTable(measured, plan.memoryCalls), toBudgetTable(checkBudgets(measured))]) {
    if (table !== undefined) console.log(`${table}\n`);
  }
  if (profiles !== undefined) console.error(`profiles are in ${profiles}`);
  // What is kept comes from runs that leave nothing out, and that nobody looked into.
  if (!quick && only === undefined && scenarios === undefined && !cpuProf) await keep(measured, plan.memoryCalls);
}

async function keep(measured: readonly Measured[], memoryCalls: number): Promise<void> {
  await writeLines(
    "rpc",
    await circumstances(),
    toEntries(measured, memoryCalls).map((entry) => ({ ...entry })),
  );
  const step = measured.find(({ scenario }) => scenario === mainScenario);
  if (step !== undefined) await writeFile(new URL("rpc.svg", resultsFolder), toSvg(toCpuChart(step, CHART_TITLE)));
}

try {
  await main(parseArguments(process.argv.slice(2)));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
