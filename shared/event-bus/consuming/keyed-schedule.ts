/** Hands out items in the order in which they came, those of one key never to two takers at once. */
export interface KeyedSchedule<T> {
  /** @param key empty: no order to keep */
  push(key: string, item: T): void;
  /**
   * The next items, at most `max`, of keys that nobody has; empty when there are none. Their keys are the caller's until
   * `release`.
   */
  take(max: number): Taken<T>;
  release(taken: Taken<T>): void;
  /** Drops what nobody has taken, and answers it. */
  clear(): T[];
  /** How many wait to be taken. */
  readonly size: number;
}

export interface Taken<T> {
  readonly items: readonly T[];
  readonly lanes: readonly Lane<T>[];
}

/** What waits of one key. */
interface Lane<T> {
  readonly key: string;
  waiting: T[];
}

export function createKeyedSchedule<T>(): KeyedSchedule<T> {
  /** By key: those that wait or are taken. Items without a key have a lane each and stand here not at all. */
  const lanes = new Map<string, Lane<T>>();
  /** Those with items that nobody has taken, in order. */
  let ready: Lane<T>[] = [];
  let next = 0;
  let size = 0;

  function shiftReady(): Lane<T> | undefined {
    const lane = ready[next];
    if (lane === undefined) return undefined;
    next++;
    // An array that is shifted at its front is copied each time; this one is now and then.
    if (next > 1_000 && next * 2 > ready.length) {
      ready = ready.slice(next);
      next = 0;
    }
    return lane;
  }

  return {
    push(key, item) {
      size++;
      const lane = key === "" ? undefined : lanes.get(key);
      if (lane !== undefined) {
        lane.waiting.push(item);
        return;
      }
      const fresh = { key, waiting: [item] };
      if (key !== "") lanes.set(key, fresh);
      ready.push(fresh);
    },
    take(max) {
      const items: T[] = [];
      const taken: Lane<T>[] = [];
      while (items.length < max) {
        const lane = shiftReady();
        if (lane === undefined) break;
        taken.push(lane);
        items.push(...lane.waiting.splice(0, max - items.length));
      }
      size -= items.length;
      return { items, lanes: taken };
    },
    release(taken) {
      for (const lane of taken.lanes) {
        if (lane.waiting.length > 0) ready.push(lane);
        else lanes.delete(lane.key);
      }
    },
    clear() {
      const dropped: T[] = [];
      const keyless = ready.slice(next).filter(({ key }) => key === "");
      for (const lane of [...lanes.values(), ...keyless]) dropped.push(...lane.waiting.splice(0));
      for (const lane of ready.slice(next)) lanes.delete(lane.key);
      ready = [];
      next = 0;
      size = 0;
      return dropped;
    },
    get size() {
      return size;
    },
  };
}
