/** One job's place: waiting, then holding a slot, then gone. */
export interface QueueTicket {
  /** True while the job has no slot yet. */
  readonly waiting: boolean;
  /** Resolves when the job has a slot. Never, if it leaves before. */
  readonly granted: Promise<void>;
  /** Gives the slot back, or leaves the queue. May be called twice. */
  leave(): void;
}

/** A place in the queue for a job that is not on record yet. It is kept, but nobody else is held up by it. */
export interface Reservation {
  enter(id: string): QueueTicket;
  /** Gives the place up. After `enter`, that is the ticket's affair. */
  giveUp(): void;
}

export interface JobQueueOptions {
  /** How many jobs may wait. Default: no limit. */
  readonly maxWaiting?: number;
  /** The time in milliseconds. Default: that of a clock that nobody sets. */
  readonly now?: () => number;
  /** Called when positions may have changed. It must not throw. */
  readonly onMoved?: () => void;
}

/** So many of the last jobs tell how long one takes. */
const DURATIONS_KEPT = 20;
/** How long a job takes, as long as none has ended. */
const UNKNOWN_DURATION_MS = 10_000;
const MAX_RETRY_AFTER_SECONDS = 3_600;

interface Place {
  state: 'reserved' | 'waiting' | 'running' | 'gone';
  id: string | undefined;
  grantedMs: number;
  resolve: () => void;
}

/** Lets so many jobs at a time to a backend, in the order in which they came. */
export class JobQueue {
  readonly #concurrency: number;
  readonly #maxWaiting: number;
  readonly #now: () => number;
  readonly #onMoved: () => void;
  /** Those without a slot, in the order in which they came. */
  readonly #places: Place[] = [];
  #running = 0;
  #pauses = 0;
  readonly #durationsMs: number[] = [];

  /** @param concurrency slots; `Infinity` for no limit. */
  constructor(concurrency: number, options: JobQueueOptions = {}) {
    this.#concurrency = concurrency;
    this.#maxWaiting = options.maxWaiting ?? Number.POSITIVE_INFINITY;
    this.#now = options.now ?? (() => performance.now());
    this.#onMoved = options.onMoved ?? (() => {});
  }

  /** A place at the end of the queue; undefined where as many wait as may. */
  reserve(): Reservation | undefined {
    const isFull = this.#running + this.#places.length >= this.#concurrency + this.#maxWaiting;
    return isFull ? undefined : this.#reserve();
  }

  /** A place at the end of the queue, also where that is full. */
  enter(id: string): QueueTicket {
    return this.#reserve().enter(id);
  }

  /** How many jobs are to be let in up to this one: 1 for the next, undefined for a job that does not wait. */
  positionOf(id: string): number | undefined {
    const index = this.#places.findIndex((place) => place.id === id);
    return index === -1 ? undefined : index + 1;
  }

  /** The positions of all that wait, by id, the next to be let in first. */
  get positions(): ReadonlyMap<string, number> {
    const positions = new Map<string, number>();
    for (const [index, { id }] of this.#places.entries()) if (id !== undefined) positions.set(id, index + 1);
    return positions;
  }

  /** How many jobs wait for a slot, and how many have one. */
  get counts(): { readonly running: number; readonly waiting: number } {
    const waiting = this.#places.filter(({ state }) => state === 'waiting').length;
    return { running: this.#running, waiting };
  }

  /** When all that wait now will have had their turn, judged by the last jobs: in whole seconds, at most an hour. */
  get retryAfterSeconds(): number {
    const known = this.#durationsMs.length > 0 ? this.#durationsMs : [UNKNOWN_DURATION_MS];
    const averageMs = known.reduce((sum, one) => sum + one, 0) / known.length;
    const seconds = Math.ceil((averageMs * this.#places.length) / this.#concurrency / 1000);
    return Math.min(Math.max(seconds, 1), MAX_RETRY_AFTER_SECONDS);
  }

  /**
   * Lets nobody in until the returned function is called: what is under way concerns the jobs that are at the backend
   * now, and must not hit the next one.
   */
  pause(): () => void {
    this.#pauses += 1;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#pauses -= 1;
      this.#letIn();
    };
  }

  #reserve(): Reservation {
    const place: Place = { state: 'reserved', id: undefined, grantedMs: 0, resolve: () => {} };
    this.#places.push(place);
    return {
      enter: (id) => this.#enter(place, id),
      giveUp: () => {
        if (place.state === 'reserved') this.#leave(place);
      },
    };
  }

  #enter(place: Place, id: string): QueueTicket {
    const granted = new Promise<void>((resolve) => {
      place.resolve = resolve;
    });
    place.id = id;
    place.state = 'waiting';
    this.#letIn();
    return {
      get waiting() {
        return place.state === 'waiting';
      },
      granted,
      leave: () => this.#leave(place),
    };
  }

  #leave(place: Place): void {
    if (place.state === 'running') {
      this.#running -= 1;
      this.#durationsMs.push(this.#now() - place.grantedMs);
      if (this.#durationsMs.length > DURATIONS_KEPT) this.#durationsMs.shift();
    } else if (place.state !== 'gone') {
      this.#places.splice(this.#places.indexOf(place), 1);
    }
    place.state = 'gone';
    this.#letIn();
  }

  #letIn(): void {
    while (this.#pauses === 0 && this.#running < this.#concurrency) {
      const index = this.#places.findIndex(({ state }) => state === 'waiting');
      const [next] = index === -1 ? [] : this.#places.splice(index, 1);
      if (!next) break;
      next.state = 'running';
      next.grantedMs = this.#now();
      this.#running += 1;
      next.resolve();
    }
    this.#onMoved();
  }
}
