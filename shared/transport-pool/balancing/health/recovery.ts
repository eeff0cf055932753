import type { SubchannelState } from "../../connections/subchannel.ts";

/** How long a peer must have been silent for its first sign of life to be a new beginning. */
const LONG_SILENCE_MS = 1_000;

/**
 * Tells when a peer begins anew, so that its old latency says nothing any more: it is connected to again, or gives a sign
 * of life after a long silence. Else it would be left alone until that has faded, for up to a minute after an outage of a
 * second, since calls that fail together count five times the average each.
 *
 * One that was silent for a moment only may just have too much to do: what is known of it holds.
 *
 * @returns to be asked after each change; true when it has begun anew
 */
export function createRecovery(): (state: SubchannelState, isResponsive: boolean, now: number) => boolean {
  let wasReady = false;
  let silentSince: number | undefined;

  return (state, isResponsive, now) => {
    const isReady = state === "ready";
    const isConnectedAgain = isReady && !wasReady;
    const isBack = isReady && isResponsive && silentSince !== undefined && now - silentSince >= LONG_SILENCE_MS;
    wasReady = isReady;
    if (isReady && !isResponsive) silentSince ??= now;
    else silentSince = undefined;
    return isConnectedAgain || isBack;
  };
}
