/** One line that says what went wrong. Node's error for a name with several addresses has no message of its own. */
export function describeError(error: Error): string {
  if (error.message !== "" || !(error instanceof AggregateError)) return error.message;
  return error.errors.map((inner) => (inner instanceof Error ? inner.message : String(inner))).join("; ");
}
