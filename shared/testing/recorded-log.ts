import { createLogger, type Logger } from "#shared/logging";
import { until } from "./waiting.ts";

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface RecordedLog {
  readonly logger: Logger;
  /** Lines so far, in order. */
  readonly lines: LogLine[];
  /** Waits for the first line that has these fields. */
  line(fields: Readonly<Record<string, unknown>>): Promise<LogLine>;
  /** Returns the lines that have these fields. */
  matching(fields: Readonly<Record<string, unknown>>): LogLine[];
}

/** Creates a real logger that keeps its lines. */
export function recordLog(level: "debug" | "info" | "silent" = "debug"): RecordedLog {
  const lines: LogLine[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) };
  const logger = createLogger({ name: "test-service", config: { level, format: "json" }, destination });
  const matching: RecordedLog["matching"] = (fields) =>
    lines.filter((line) => Object.entries(fields).every(([name, value]) => line[name] === value));
  return {
    logger,
    lines,
    matching,
    async line(fields) {
      await until(`a log line with ${JSON.stringify(fields)}`, () => matching(fields).length > 0);
      return matching(fields)[0] as LogLine;
    },
  };
}
