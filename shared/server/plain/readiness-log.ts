import type { Readiness, ReadinessState } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";

/**
 * One line whenever the app becomes ready or not, with the reasons, which `/readyz` keeps to itself.
 *
 * @returns how to stop it
 */
export function logReadiness(logger: Logger, readiness: Readiness): () => void {
  let wasReady: boolean | undefined;
  function tell({ ready, draining, components }: ReadinessState): void {
    if (ready === wasReady) return;
    // Not to be ready yet, or no more, is no trouble.
    const level = draining === undefined && wasReady === true ? "warn" : "info";
    wasReady = ready;
    if (ready) logger.info("ready");
    else logger[level]({ draining, components: components.filter((component) => !component.ready) }, "not ready");
  }
  tell(readiness.state());
  return readiness.subscribe(tell);
}
