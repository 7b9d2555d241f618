import type { Job } from '../job.js';
import type { JobPage } from './job-store.js';

/** So many places of removed jobs may lie in a list at least before it is cleared of them. */
const SLACK = 1000;

/**
 * Jobs in the order in which they were added. A Map cannot be walked backwards, and is walked several times as slowly as
 * an array, in which removed jobs leave a hole for a while.
 */
export class JobList {
  #jobs: (Job | undefined)[] = [];
  readonly #places = new Map<string, number>();

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
    if (place !== undefined) {
      this.#jobs[place] = job;
      return;
    }
    this.#places.set(job.id, this.#jobs.length);
    this.#jobs.push(job);
  }

  remove(id: string): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    this.#places.delete(id);
    this.#jobs[place] = undefined;
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

  /** The same of those that match; the total needs every one of them in any case. */
  matching(matches: (job: Job) => boolean, limit: number, before?: string): JobPage {
    const end = this.#endOf(before);
    const jobs: Job[] = [];
    let total = 0;
    for (let at = this.#jobs.length - 1; at >= 0; at -= 1) {
      const job = this.#jobs[at];
      if (!job || !matches(job)) continue;
      total += 1;
      if (at < end && jobs.length < limit) jobs.push(job);
    }
    return { jobs, total };
  }

  #endOf(before: string | undefined): number {
    return before === undefined ? this.#jobs.length : (this.#places.get(before) ?? 0);
  }

  #close(): void {
    this.#jobs = this.#jobs.filter((job) => job !== undefined);
    for (const [place, job] of this.#jobs.entries()) this.#places.set((job as Job).id, place);
  }
}
