import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";

export interface SuiteOptions {
  /** Of the runner, as `install` returns it. */
  readonly runner: string;
  readonly mode: "server" | "client";
  /** Flags of the program under test. */
  readonly flags?: readonly string[];
  /** Version of Connect that the program under test uses: the installed one, or the next one. */
  readonly connect: "2.2" | "2.3";
  /** Patterns of cases that are left out. */
  readonly skip?: readonly string[];
}

export interface Summary {
  /** Number of cases that have a result. */
  readonly total: number;
  readonly passed: number;
  /** Unexpected failures with their reasons and the totals, or the whole output when the runner did not finish. */
  readonly report: string;
}

const support = join(import.meta.dirname, "../support");
const SUITE_TIMEOUT_MS = 10 * 60_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** Runs the suite; CONFORMANCE_CASES, a pattern of the runner such as `Basic/**`, leaves out all other cases. */
export async function runSuite({ runner, mode, flags = [], connect, skip = [] }: SuiteOptions): Promise<Summary> {
  const cases = process.env["CONFORMANCE_CASES"];
  const args = [
    ...["--mode", mode, "--conf", join(import.meta.dirname, `${mode}.yaml`)],
    ...(cases === undefined ? [] : ["--run", cases]),
    ...skip.flatMap((pattern) => ["--skip", pattern]),
    ...["--", process.execPath, ...(connect === "2.2" ? [] : ["--import", `${support}/connect-${connect}.ts`])],
    ...[join(import.meta.dirname, `programs/${mode}.ts`), ...flags],
  ];
  const { stdout, stderr } = await outputOf(runner, args);
  const summary = toSummary(stdout);
  return summary.total > 0 ? summary : { ...summary, report: stdout + stderr };
}

/** The exit code says less than the summary: the runner ends with 0 when some cases could not be run. */
function outputOf(runner: string, args: readonly string[]): Promise<Record<"stdout" | "stderr", string>> {
  const { promise, resolve } = Promise.withResolvers<Record<"stdout" | "stderr", string>>();
  const options = { timeout: SUITE_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES };
  execFile(runner, args, options, (_error, stdout, stderr) => resolve({ stdout, stderr }));
  return promise;
}

export function toSummary(output: string): Summary {
  const numberIn = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? 0);
  const isFinished = output.includes("\nTotal cases: ");
  const parts = output.split(/^(?=FAILED: |INFO: |Total cases: )/m);
  return {
    total: numberIn(/^Total cases: (\d+)/m),
    passed: numberIn(/^(\d+) passed, /m),
    report: isFinished ? parts.filter((part) => /^(FAILED|Total cases): /.test(part)).join("") : output,
  };
}
