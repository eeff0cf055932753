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
export async function writeLines(name: string, circumstances: Fields, lines: readonly Fields[]): Promise<void> {
  const machine = { cores: availableParallelism(), node: process.versions.node, ...circumstances };
  const text = toText(machine, lines);
  await mkdir(resultsFolder, { recursive: true });
  await writeFile(new URL(`${name}.json`, resultsFolder), text);
}

type Fields = Readonly<Record<string, unknown>>;

const WIDTH = 120;

/** As the formatter has it. */
export function toText(machine: Fields, results: readonly Fields[]): string {
  const lines = results.map((fields) => `    ${toObject(fields, "    ")}`);
  return `{\n  "machine": ${toObject(machine, '  "machine": ')},\n  "results": [\n${lines.join(",\n")}\n  ]\n}\n`;
}

/** On one line where it fits behind what stands `before` it, with a comma after it. */
function toObject(fields: Fields, before: string): string {
  const entries = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  const line = `{ ${entries.join(", ")} }`;
  if (before.length + line.length + 1 <= WIDTH) return line;
  const indent = " ".repeat(before.length - before.trimStart().length);
  return `{\n${entries.map((entry) => `${indent}  ${entry}`).join(",\n")}\n${indent}}`;
}

/** Three digits that count; all of those before the point. */
export function rounded(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}
