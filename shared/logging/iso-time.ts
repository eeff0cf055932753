let secondMs = Number.NaN;
/** Formatted time up to the dot. */
let second = "";

/** Formats a time as `Date.toISOString` does. The part before the milliseconds is formatted once a second. */
export function isoTime(nowMs = Date.now()): string {
  const ms = nowMs % 1_000;
  if (nowMs - ms !== secondMs) {
    secondMs = nowMs - ms;
    second = new Date(secondMs).toISOString().slice(0, -4);
  }
  return `${second}${ms < 10 ? "00" : ms < 100 ? "0" : ""}${ms}Z`;
}
