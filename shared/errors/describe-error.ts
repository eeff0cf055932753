/** What went wrong, in one line. Node's error for a name with several addresses has no message of its own. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== "" || !(error instanceof AggregateError)) return error.message;
  return error.errors.map(describeError).join("; ");
}
