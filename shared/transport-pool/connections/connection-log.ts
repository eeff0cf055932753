import { describeError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import type { SubchannelState } from "./subchannel.ts";

export interface ConnectionLogOptions {
  readonly logger: Pick<Logger, "debug" | "info" | "warn">;
  /** The service's name. */
  readonly service: string;
  readonly peer: string;
}

/** Tells the log when a service goes away and when it is back: a warning once, not for each attempt. */
export function createConnectionLog({ logger, service, peer }: ConnectionLogOptions) {
  let isDown = false;
  const about = { peer_service: service, peer };

  return (state: SubchannelState, cause?: Error): void => {
    if (state === "transient_failure") {
      const fields = { ...about, error: cause === undefined ? "" : describeError(cause) };
      if (isDown) logger.debug(fields, `${service} at ${peer} is still down`);
      else logger.warn(fields, `${service} at ${peer} is down; trying again in the background`);
      isDown = true;
    } else if (state === "ready") {
      if (isDown) logger.info(about, `${service} at ${peer} is back`);
      else logger.debug(about, `connected to ${service} at ${peer}`);
      isDown = false;
    } else if (state === "idle" && cause !== undefined) {
      logger.info({ ...about, error: describeError(cause) }, `lost the connection to ${service} at ${peer}`);
    }
  };
}
