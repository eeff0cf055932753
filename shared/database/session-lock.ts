/** A lock in memory, given in the order of asking. */
export interface SessionLock {
  /** @throws Error when the lock is not free within the timeout */
  acquire(): Promise<void>;
  release(): void;
}

export function createSessionLock(timeoutMs: number): SessionLock {
  let taken = false;
  const waiting = new Set<() => void>();

  return {
    async acquire() {
      if (!taken) {
        taken = true;
        return;
      }
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(enter);
          reject(new Error(`the one session of the embedded database was busy for ${timeoutMs} ms`));
        }, timeoutMs);
        const enter = () => {
          clearTimeout(timer);
          waiting.delete(enter);
          resolve();
        };
        waiting.add(enter);
      });
    },
    release() {
      const [next] = waiting;
      if (next === undefined) taken = false;
      else next();
    },
  };
}
