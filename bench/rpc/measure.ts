import { inRounds } from "../support/rounds.ts";
import { type Line, openLine, type Round, type SideMemory } from "./line.ts";
import { mainScenario, type Plan, type Step } from "./plan.ts";
import type { Role } from "./processes/messages.ts";
import type { ScenarioName } from "./scenarios.ts";
import type { VariantName } from "./variants.ts";

/** One scenario, with its variants in their order. */
export interface Measured {
  readonly scenario: ScenarioName;
  readonly variants: readonly MeasuredVariant[];
}

export interface MeasuredVariant {
  readonly name: VariantName;
  /** As many for each of a scenario, measured in turn. */
  readonly rounds: readonly Round[];
  /** After `memoryCalls`, of the main scenario only. */
  readonly memory?: SideMemory;
}

export interface MeasureOptions {
  /** Where processes write what V8's profiler saw; undefined: it does not look. */
  readonly profiles?: string | undefined;
}

/** New processes for each scenario, so that a scenario measured alone is measured in the same way. */
export async function measureStep(step: Step, plan: Plan, { profiles }: MeasureOptions): Promise<Measured> {
  const { scenario } = step;
  const lines: Line[] = [];
  const open = async (variant: VariantName): Promise<void> => {
    const execArgvOf = (role: Role) => (profiles === undefined ? [] : profiling(profiles, scenario, variant, role));
    lines.push(await openLine({ variant, scenario, execArgvOf }));
  };
  try {
    for (const variant of step.variants) await open(variant);
    const calls = new Map<VariantName, number>();
    for (const line of lines) calls.set(line.variant, (await line.run({ ms: plan.warmUpMs })).calls);

    const peers = lines.map((line) => {
      const run = async () => {
        const leadIn = plan.leadInMs === 0 ? undefined : await line.run({ ms: plan.leadInMs });
        const round = await line.run({ ms: plan.roundMs });
        calls.set(line.variant, (calls.get(line.variant) ?? 0) + (leadIn?.calls ?? 0) + round.calls);
        return round;
      };
      return [line.variant, run] as const;
    });
    const rounds: Readonly<Record<string, readonly Round[]>> = await inRounds(plan.rounds, Object.fromEntries(peers));

    const measured: MeasuredVariant[] = [];
    for (const line of lines) {
      const { variant: name } = line;
      const memory = await memoryOf(line, scenario, plan.memoryCalls - (calls.get(name) ?? 0), plan);
      measured.push({ name, rounds: rounds[name] ?? [], ...(memory === undefined ? {} : { memory }) });
    }
    return { scenario, variants: measured };
  } finally {
    await Promise.all(lines.map((line) => line.end()));
  }
}

/** Once the calls that are missing are made too. */
async function memoryOf(
  line: Line,
  scenario: ScenarioName,
  missing: number,
  { memoryCalls }: Plan,
): Promise<SideMemory | undefined> {
  if (memoryCalls === 0 || scenario !== mainScenario) return undefined;
  if (missing > 0) await line.run({ calls: missing });
  return await line.memory();
}

function profiling(folder: string, scenario: ScenarioName, variant: VariantName, role: Role): string[] {
  return ["--cpu-prof", `--cpu-prof-dir=${folder}`, `--cpu-prof-name=${scenario}.${variant}.${role}.cpuprofile`];
}
