/** Counts timers from now on, also those that do not keep a process alive: Node tells only of the others. */
export function pendingTimeouts(): { readonly count: number } {
  const pending = new Set<NodeJS.Timeout>();
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  const counted = (work: (...values: unknown[]) => void, timeMs?: number, ...values: unknown[]) => {
    const timer = set(
      (...given: unknown[]) => {
        pending.delete(timer);
        work(...given);
      },
      timeMs,
      ...values,
    );
    pending.add(timer);
    return timer;
  };
  globalThis.setTimeout = Object.assign(counted, set) as typeof setTimeout;
  globalThis.clearTimeout = (timer) => {
    if (typeof timer === 'object') pending.delete(timer as NodeJS.Timeout);
    clear(timer);
  };
  return {
    get count() {
      return pending.size;
    },
  };
}
