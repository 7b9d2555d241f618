import type { Job } from '../job.js';
import type { JobPage, JobQuery } from './job-store.js';
import { TRAITS, type Trait, TraitColumn, type TraitName } from './trait-column.js';

/** So many places of removed jobs may lie in a list at least before it is cleared of them. */
const SLACK = 1000;

/**
 * Jobs in the order in which they were added. A Map cannot be walked backwards, and is walked several times as slowly as
 * an array, in which removed jobs leave a hole for a while.
 */
export class JobList {
  #jobs: (Job | undefined)[] = [];
  readonly #places = new Map<string, number>();
  readonly #columns: Readonly<Record<TraitName, TraitColumn>> = {
    ip: new TraitColumn(),
    status: new TraitColumn(),
    backend: new TraitColumn(),
  };
  /** No job is older than one that was added before it. A clock that was put back makes it false. */
  #isInOrder = true;
  #newest = Number.NEGATIVE_INFINITY;

  get size(): number {
    return this.#places.size;
  }

  get(id: string): Job | undefined {
    const place = this.#places.get(id);
    return place === undefined ? undefined : this.#jobs[place];
  }

  /** Adds a job, or puts it in the place of the one that has its id. */
  put(job: Job): void {
    const place = this.#places.get(job.id);
    if (place === undefined) {
      this.#append(job);
      return;
    }
    if (job.timestamp !== this.#jobs[place]?.timestamp) this.#isInOrder = false;
    this.#jobs[place] = job;
    this.#setTraits(place, job);
  }

  remove(id: string): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    this.#places.delete(id);
    this.#jobs[place] = undefined;
    this.#setTraits(place, undefined);
    if (this.#jobs.length > SLACK + this.size * 1.5) this.#close();
  }

  /** The last added first, at most so many; of those that were added before `before`, where that is given. */
  newest(limit: number, before?: string): JobPage {
    const jobs: Job[] = [];
    for (let at = this.#endOf(before) - 1; at >= 0 && jobs.length < limit; at -= 1) {
      const job = this.#jobs[at];
      if (job) jobs.push(job);
    }
    return { jobs, total: this.size };
  }

  /** The same of those that have a trait. */
  having({ name, value }: Trait, limit: number, before?: string): JobPage {
    const column = this.#columns[name];
    const total = column.count(value);
    // There are no more: the rest of the list is not looked through for them.
    const places = column.lastPlaces(value, this.#endOf(before), Math.min(limit, total));
    return { jobs: places.map((place) => this.#jobs[place] as Job), total };
  }

  /**
   * The same of those that match; the total needs every one of them in any case.
   *
   * @param after nothing matches whose `timestamp` is not later than this.
   */
  matching(
    matches: (job: Job) => boolean,
    { limit, before, after }: Pick<JobQuery, 'limit' | 'before' | 'after'>,
  ): JobPage {
    const end = this.#endOf(before);
    const jobs: Job[] = [];
    let total = 0;
    for (let at = this.#jobs.length - 1; at >= 0; at -= 1) {
      const job = this.#jobs[at];
      if (!job) continue;
      if (after !== undefined && this.#isInOrder && job.timestamp <= after) break;
      if (!matches(job)) continue;
      total += 1;
      if (at < end && jobs.length < limit) jobs.push(job);
    }
    return { jobs, total };
  }

  #endOf(before: string | undefined): number {
    return before === undefined ? this.#jobs.length : (this.#places.get(before) ?? 0);
  }

  #append(job: Job): void {
    const place = this.#jobs.push(job) - 1;
    this.#places.set(job.id, place);
    this.#setTraits(place, job);
    if (job.timestamp < this.#newest) this.#isInOrder = false;
    this.#newest = job.timestamp;
  }

  #setTraits(place: number, job: Job | undefined): void {
    for (const name of TRAITS) this.#columns[name].set(place, job?.[name]);
  }

  #close(): void {
    const jobs = this.#jobs;
    this.#jobs = [];
    for (const name of TRAITS) this.#columns[name].clear();
    this.#isInOrder = true;
    this.#newest = Number.NEGATIVE_INFINITY;
    for (const job of jobs) if (job) this.#append(job);
  }
}
