/**
 * Describes an error in one line. Never throws. Node's error for a name with several addresses has no message of its own, and
 * a thrown value may have no string form.
 */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return textOf(error);
  if (error.message !== "" || !(error instanceof AggregateError)) return error.message;
  return error.errors.map(describeError).join("; ");
}

/** Gives the string form of a thrown value, with the name of an error: `TypeError: …`. Never throws. */
export function textOf(value: unknown): string {
  try {
    return String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}
