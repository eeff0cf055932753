import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";

/** One line of a benchmark. */
export interface Result {
  readonly name: string;
  /** Ours. */
  readonly value: number;
  readonly unit: string;
  /** What we stand beside, in the same run. */
  readonly bare?: number;
  /** Ours ÷ bare. */
  readonly ratio?: number;
  readonly budget?: Budget;
}

/** What a value or ratio should be. */
export type Budget = { readonly of: "value" | "ratio" } & ({ readonly atLeast: number } | { readonly below: number });

export function isMet(budget: Budget, { value, ratio = Number.NaN }: Result): boolean {
  const measured = budget.of === "value" ? value : ratio;
  return "below" in budget ? measured < budget.below : measured >= budget.atLeast;
}

/** Where results are kept. */
export const resultsFolder = new URL("../results/", import.meta.url);

/** Writes `bench/results/<name>.json`: the machine, with what else should be known of the run, and one result a line. */
export async function writeResults(
  name: string,
  circumstances: Readonly<Record<string, string>>,
  results: readonly Result[],
): Promise<void> {
  const lines = results.map(({ name: of, value, unit, ratio }) => ({
    name: of,
    value: rounded(value),
    unit,
    ratio: ratio === undefined ? null : rounded(ratio),
  }));
  await writeLines(name, circumstances, lines);
}

/** The same for results of another shape, whose numbers are rounded already. */
export async function writeLines(
  name: string,
  circumstances: Readonly<Record<string, unknown>>,
  lines: readonly Readonly<Record<string, unknown>>[],
): Promise<void> {
  const machine = { cores: availableParallelism(), node: process.versions.node, ...circumstances };
  const results = lines.map(inOneLine).join(",\n    ");
  const text = `{\n  "machine": ${inOneLine(machine)},\n  "results": [\n    ${results}\n  ]\n}\n`;
  await mkdir(resultsFolder, { recursive: true });
  await writeFile(new URL(`${name}.json`, resultsFolder), text);
}

/** As the formatter has it. */
function inOneLine(fields: Readonly<Record<string, unknown>>): string {
  const entries = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  return `{ ${entries.join(", ")} }`;
}

/** Three digits that count; all of those before the point. */
export function rounded(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}
