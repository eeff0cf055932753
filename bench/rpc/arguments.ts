import { parseArgs } from "node:util";
import { type ScenarioName, scenarioNames } from "./scenarios.ts";
import { type VariantName, variantNames } from "./variants.ts";

/** What the command line asks for. */
export interface Arguments {
  readonly quick: boolean;
  /** In the order of the command line; undefined: all. */
  readonly only: readonly VariantName[] | undefined;
  readonly scenarios: readonly ScenarioName[] | undefined;
  readonly cpuProf: boolean;
}

/** @throws Error whose message is for whoever has typed it */
export function parseArguments(args: readonly string[]): Arguments {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string" },
      scenario: { type: "string" },
      "cpu-prof": { type: "boolean", default: false },
    },
  });
  return {
    quick: values.quick,
    only: listOf("--only", values.only, variantNames),
    scenarios: listOf("--scenario", values.scenario, scenarioNames),
    cpuProf: values["cpu-prof"],
  };
}

/** Names that are told apart by commas, each once. */
function listOf<Name extends string>(
  option: string,
  value: string | undefined,
  known: readonly Name[],
): readonly Name[] | undefined {
  if (value === undefined) return undefined;
  const names = value.split(",").map((name) => {
    const found = known.find((one) => one === name.trim());
    if (found !== undefined) return found;
    throw new Error(`${option} does not know ${JSON.stringify(name)}; it knows ${known.join(", ")}`);
  });
  return [...new Set(names)];
}
