/** A member of `RunningCalls` with its neighbours in the list. Undefined while it is not a member. */
export interface RunningCall<Call> {
  previous: Call | undefined;
  next: Call | undefined;
}

/**
 * The calls in flight. Not a Set: one that calls come into and leave makes a new table every few of them, the tables of
 * the past refer to those after them, and once V8 has moved the first to its old generation, all of them live on, with
 * all their calls, until a full collection.
 */
export class RunningCalls<Call extends RunningCall<Call>> {
  #last: Call | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(call: Call): void {
    this.#size++;
    call.previous = this.#last;
    if (this.#last !== undefined) this.#last.next = call;
    this.#last = call;
  }

  /** Removes a call. Does nothing when it is not a member. */
  delete(call: Call): void {
    if (!this.#has(call)) return;
    this.#size--;
    const { previous, next } = call;
    if (next !== undefined) next.previous = previous;
    else this.#last = previous;
    if (previous !== undefined) previous.next = next;
    call.previous = undefined;
    call.next = undefined;
  }

  /** Iterates over the current calls in order of arrival. Calls that leave during the iteration are skipped. */
  *[Symbol.iterator](): Generator<Call, void> {
    const calls: Call[] = [];
    for (let call = this.#last; call !== undefined; call = call.previous) calls.push(call);
    for (const call of calls.reverse()) {
      if (this.#has(call)) yield call;
    }
  }

  #has(call: Call): boolean {
    return call === this.#last || call.next !== undefined;
  }
}
