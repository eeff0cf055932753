import type { Endpoint, ResolverListener } from "../index.ts";

/** A listener that keeps what it is told. */
export interface Recorder extends ResolverListener {
  readonly sets: (readonly Endpoint[])[];
  readonly errors: Error[];
  /** Of the last set, sorted and with commas between; undefined before the first. */
  addresses(): string | undefined;
}

export function createRecorder(): Recorder {
  const sets: (readonly Endpoint[])[] = [];
  const errors: Error[] = [];
  return {
    sets,
    errors,
    onEndpoints: (endpoints) => void sets.push(endpoints),
    onError: (error) => void errors.push(error),
    addresses: () =>
      sets
        .at(-1)
        ?.map(({ address }) => address)
        .toSorted()
        .join(),
  };
}
