import { toColumns } from "./columns.ts";
import { type Budget, isMet, type Result } from "./results.ts";

const HEAD = ["", "ours", "bare", "unit", "ratio", "budget", ""];
/** The columns of numbers stand to the right. */
const TO_THE_RIGHT = new Set([1, 2, 4]);

/** The results for people. */
export function toTable(results: readonly Result[]): string {
  return toColumns([HEAD, ...results.map(toCells)], TO_THE_RIGHT);
}

function toCells(result: Result): string[] {
  const { name, value, bare, unit, ratio, budget } = result;
  return [
    name,
    inDigits(value),
    bare === undefined ? "" : inDigits(bare),
    unit,
    ratio === undefined ? "" : ratio.toFixed(2),
    budget === undefined ? "" : inWords(budget, unit),
    budget === undefined ? "" : isMet(budget, result) ? "met" : "NOT MET",
  ];
}

function inWords(budget: Budget, unit: string): string {
  const bound = "below" in budget ? `< ${inDigits(budget.below)}` : `≥ ${inDigits(budget.atLeast)}`;
  return budget.of === "value" ? `${bound} ${unit}` : `${bound} of bare`;
}

/** Three digits that count; all of those before the point. */
export function inDigits(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}
