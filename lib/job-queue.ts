/** One job's place: waiting, then holding a slot, then gone. */
export interface QueueTicket {
  /** True while the job has no slot yet. */
  readonly waiting: boolean;
  /** Resolves when the job has a slot. Never, if it leaves before. */
  readonly granted: Promise<void>;
  /** Gives the slot back, or leaves the queue. May be called twice. */
  leave(): void;
}

interface Place extends QueueTicket {
  readonly id: string;
  grant(): void;
}

/** Lets so many jobs at a time to a backend, in the order in which they came. */
export class JobQueue {
  readonly #concurrency: number;
  readonly #waiting: Place[] = [];
  #running = 0;

  /** @param concurrency slots; `Infinity` for no limit. */
  constructor(concurrency: number) {
    this.#concurrency = concurrency;
  }

  enter(id: string): QueueTicket {
    let state: 'waiting' | 'running' | 'gone' = 'waiting';
    let resolve = () => {};
    const granted = new Promise<void>((done) => {
      resolve = done;
    });
    const place: Place = {
      id,
      get waiting() {
        return state === 'waiting';
      },
      granted,
      grant: () => {
        state = 'running';
        this.#running += 1;
        resolve();
      },
      leave: () => {
        if (state === 'waiting') this.#waiting.splice(this.#waiting.indexOf(place), 1);
        if (state === 'running') this.#running -= 1;
        state = 'gone';
        this.#letIn();
      },
    };
    this.#waiting.push(place);
    this.#letIn();
    return place;
  }

  /** How many jobs are to be let in up to this one: 1 for the next, undefined for a job that does not wait. */
  positionOf(id: string): number | undefined {
    const index = this.#waiting.findIndex((place) => place.id === id);
    return index === -1 ? undefined : index + 1;
  }

  /** How many jobs wait for a slot, and how many have one. */
  get counts(): { readonly running: number; readonly waiting: number } {
    return { running: this.#running, waiting: this.#waiting.length };
  }

  #letIn(): void {
    while (this.#running < this.#concurrency) {
      const next = this.#waiting.shift();
      if (!next) return;
      next.grant();
    }
  }
}
