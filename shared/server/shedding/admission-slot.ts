/**
 * What one call takes of the limit on calls: from its head until it is over and its handler has stopped working, even when
 * the caller has left in the meantime. A body that is still being read holds it; a stream of responses that is never read
 * does not keep it.
 */
export class AdmissionSlot {
  readonly #leave: () => void;
  #isWorking = false;
  #isOver = false;

  /** @param leave is called once */
  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** The handler begins to work, or goes on after a `rest`. */
  work(): void {
    this.#isWorking = true;
  }

  /** The handler waits to be asked for more. */
  rest(): void {
    this.#isWorking = false;
    if (this.#isOver) this.#leave();
  }

  /** The handler has ended. */
  done(): void {
    this.#isWorking = false;
    this.#leave();
  }

  /** The call is over. */
  over(): void {
    this.#isOver = true;
    if (!this.#isWorking) this.#leave();
  }
}
