/** A member of `RunningCalls`, with the places on both sides of it. */
export interface RunningCall<Call> {
  previous: Call | undefined;
  next: Call | undefined;
  abort(reason: unknown): void;
}

/**
 * The calls in flight. Not a Set: one that calls come into and leave makes a new table every few of them, the tables of
 * the past refer to those after them, and once V8 has moved the first to its old generation, all of them live on, with
 * all their calls, until a full collection.
 */
export class RunningCalls<Call extends RunningCall<Call>> {
  #last: Call | undefined;

  add(call: Call): void {
    call.previous = this.#last;
    if (this.#last !== undefined) this.#last.next = call;
    this.#last = call;
  }

  /** Once for each that was added. */
  delete(call: Call): void {
    const { previous, next } = call;
    if (next !== undefined) next.previous = previous;
    else this.#last = previous;
    if (previous !== undefined) previous.next = next;
    call.previous = undefined;
    call.next = undefined;
  }

  /** Ends them all early. */
  abort(reason: unknown): void {
    let call = this.#last;
    while (call !== undefined) {
      // It may leave.
      const { previous } = call;
      call.abort(reason);
      call = previous;
    }
  }
}
