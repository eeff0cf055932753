import type { Logger } from "#shared/logging";

/** Logs one line when a registry is lost and one when it is back, independent of the number of attempts in between. */
export interface AvailabilityLog {
  failed(error: Error): void;
  answered(): void;
}

/** @param about whose matter it is: `etcd:///book-service` */
export function createAvailabilityLog(
  about: string,
  consequence: string,
  logger: Pick<Logger, "debug" | "info" | "warn">,
): AvailabilityLog {
  let isLost = false;
  return {
    failed(err) {
      if (isLost) logger.debug({ err, address: about }, `the registry of ${about} still cannot be used`);
      else logger.warn({ err, address: about }, `the registry of ${about} cannot be used; ${consequence}`);
      isLost = true;
    },
    answered() {
      if (isLost) logger.info({ address: about }, `the registry of ${about} is back`);
      isLost = false;
    },
  };
}
