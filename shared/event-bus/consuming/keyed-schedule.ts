/** Hands out items in the order in which they came; those of one key never to two takers at once. */
export interface KeyedSchedule<T> {
  /** @param key empty: no order to keep */
  push(key: string, item: T): void;
  /** Whether the item that is next is to be taken alone. */
  readonly nextIsAlone: boolean;
  /**
   * Takes the next items, at most `max`, of keys that are free; none when there are none. An item that is to be taken alone
   * comes alone. The keys stay taken until `release`.
   */
  take(max: number): Taken<T>;
  release(taken: Taken<T>): void;
  /** Drops what is not taken, and returns it. */
  clear(): T[];
  /** Number of items that wait to be taken. */
  readonly size: number;
}

export interface Taken<T> {
  readonly items: readonly T[];
  /** Whether the one item is to be handled while nothing else is. */
  readonly alone: boolean;
  readonly lanes: readonly Lane<T>[];
}

/** The waiting items of one key, or one item without a key. */
interface Lane<T> {
  readonly key: string;
  waiting: T[];
}

/** @param isAlone whether nothing else may be taken together with the item */
export function createKeyedSchedule<T>(isAlone: (item: T) => boolean = () => false): KeyedSchedule<T> {
  /** By key: lanes that wait or are taken. Items without a key have a lane each, which is not in here. */
  const lanes = new Map<string, Lane<T>>();
  /** Lanes with items that are not taken, in order. */
  let ready: Lane<T>[] = [];
  let next = 0;
  let size = 0;

  function startsAlone(lane: Lane<T> | undefined): boolean {
    const first = lane?.waiting[0];
    return first !== undefined && isAlone(first);
  }

  function advance(): void {
    next++;
    // Shifting an array copies it each time; this copies now and then.
    if (next > 1_000 && next * 2 > ready.length) {
      ready = ready.slice(next);
      next = 0;
    }
  }

  /** Moves items of a lane, up to one that is to be taken alone. */
  function move(lane: Lane<T>, to: T[], max: number): void {
    const before = to.length;
    for (const item of lane.waiting) {
      if (to.length === max || isAlone(item)) break;
      to.push(item);
    }
    lane.waiting = lane.waiting.slice(to.length - before);
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
    get nextIsAlone() {
      return startsAlone(ready[next]);
    },
    take(max) {
      const items: T[] = [];
      const taken: Lane<T>[] = [];
      const alone = startsAlone(ready[next]);
      while (items.length < (alone ? 1 : max)) {
        const lane = ready[next];
        if (lane === undefined || (!alone && startsAlone(lane))) break;
        advance();
        taken.push(lane);
        if (alone) items.push(...lane.waiting.splice(0, 1));
        else move(lane, items, max);
      }
      size -= items.length;
      return { items, lanes: taken, alone };
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
