let secondMs = Number.NaN;
/** Up to the dot. */
let second = "";

/** The time of now, as `Date` writes it; all but the milliseconds is made once a second. */
export function isoTime(nowMs = Date.now()): string {
  const ms = nowMs % 1_000;
  if (nowMs - ms !== secondMs) {
    secondMs = nowMs - ms;
    second = new Date(secondMs).toISOString().slice(0, -4);
  }
  return `${second}${ms < 10 ? "00" : ms < 100 ? "0" : ""}${ms}Z`;
}
