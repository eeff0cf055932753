/** Readiness of an app, combined from its components. Source of health checks and `/readyz`. */
export interface Readiness {
  /**
   * Adds a component that is not ready yet.
   *
   * @throws Error when the name is taken
   */
  component(name: string): ComponentReadiness;
  state(): ReadinessState;
  /**
   * Calls the listener on every change, not with the current state. The listener must not throw.
   *
   * @returns a function that unsubscribes
   */
  subscribe(listener: (state: ReadinessState) => void): () => void;
  /**
   * Calls the listener once: now, or when the app is ready for the first time. The listener must not throw.
   *
   * @returns a function that unsubscribes
   */
  onceReady(listener: () => void): () => void;
  /** Makes the app not ready for good, independent of its components: it shuts down. */
  drain(reason: string): void;
}

export interface ComponentReadiness {
  ready(): void;
  /** @param reason shown to operators, such as `connecting to postgres` */
  notReady(reason: string): void;
}

export interface ReadinessState {
  /** True when every component is ready and the app does not drain. */
  readonly ready: boolean;
  /** Reason of the drain; undefined when the app does not drain. */
  readonly draining?: string;
  readonly components: readonly ComponentState[];
}

export interface ComponentState {
  readonly name: string;
  readonly ready: boolean;
  /** Present when not ready. */
  readonly reason?: string;
}

export function createReadiness(): Readiness {
  const components = new Map<string, ComponentState>();
  const listeners = new Set<(state: ReadinessState) => void>();
  let draining: string | undefined;
  let state = snapshot();

  function snapshot(): ReadinessState {
    const all = [...components.values()];
    const ready = draining === undefined && all.every((component) => component.ready);
    return { ready, ...(draining !== undefined && { draining }), components: all };
  }

  function changed(): void {
    state = snapshot();
    for (const listener of [...listeners]) listener(state);
  }

  function set(next: ComponentState): void {
    const now = components.get(next.name);
    if (now?.ready === next.ready && now.reason === next.reason) return;
    components.set(next.name, next);
    changed();
  }

  function subscribe(listener: (state: ReadinessState) => void): () => void {
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
    };
  }

  return {
    component(name) {
      if (components.has(name)) throw new Error(`there is a component named ${name} already`);
      set({ name, ready: false, reason: "starting" });
      return {
        ready: () => set({ name, ready: true }),
        notReady: (reason) => set({ name, ready: false, reason }),
      };
    },
    state: () => state,
    subscribe,
    onceReady(listener) {
      if (state.ready) {
        listener();
        return () => {};
      }
      const unsubscribe = subscribe(({ ready }) => {
        if (!ready) return;
        unsubscribe();
        listener();
      });
      return unsubscribe;
    },
    drain(reason) {
      if (draining !== undefined) return;
      draining = reason;
      changed();
    },
  };
}
