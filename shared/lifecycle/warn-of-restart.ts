import { changedSections } from "#shared/config";
import type { Logger } from "#shared/logging";

export interface RestartWarningOptions<Config> {
  readonly logger: Pick<Logger, "warn">;
  /** Configuration that the app was created with. */
  readonly inForce: Config;
  /** New configuration. */
  readonly next: Config;
  /** Sections that the app applies while it runs. */
  readonly taken: readonly (keyof Config & string)[];
}

/** Logs one line with the changed sections that take effect only after a restart, if there are any. */
export function warnOfRestart<Config extends object>(options: RestartWarningOptions<Config>): void {
  const { logger, inForce, next, taken } = options;
  const sections = changedSections(inForce, next, taken);
  if (sections.length === 0) return;
  logger.warn({ sections }, `${sections.join(", ")}: changed in the configuration, and not in force until a restart`);
}
