import { changedSections } from "#shared/config";
import type { Logger } from "#shared/logging";

export interface RestartWarningOptions<Config> {
  readonly logger: Pick<Logger, "warn">;
  /** What the app was made with. */
  readonly inForce: Config;
  /** What it is told now. */
  readonly next: Config;
  /** Parts that it takes on while it runs. */
  readonly taken: readonly (keyof Config & string)[];
}

/** Says in one line of the log which parts of a changed configuration wait for a restart, if there are any. */
export function warnOfRestart<Config extends object>(options: RestartWarningOptions<Config>): void {
  const { logger, inForce, next, taken } = options;
  const sections = changedSections(inForce, next, taken);
  if (sections.length === 0) return;
  logger.warn({ sections }, `${sections.join(", ")}: changed in the configuration, and not in force until a restart`);
}
