import { createLogger, type Logger, logSection } from "#shared/logging";

/** Writes to stderr, since stdout belongs to the runner, which shows stderr when a case fails. */
export function createStderrLogger(name: string): Logger {
  return createLogger({
    name,
    config: logSection.parse({ level: "error" }),
    destination: { write: (line) => void process.stderr.write(line) },
  });
}
