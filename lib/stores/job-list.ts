import type { Job } from '../job.js';
import { FieldCounts, type Trait } from './field-counts.js';
import type { JobPage } from './job-store.js';

/** So many places of removed jobs may lie in a list at least before it is cleared of them. */
const SLACK = 1000;

/** Which jobs of a list are asked for. */
export interface JobFilter {
  readonly matches: (job: Job) => boolean;
  /** All that `matches` asks for, where that is no more. */
  readonly only?: Trait | undefined;
  /** `matches` lets no job through whose `timestamp` is not later than this. */
  readonly after?: number | undefined;
  readonly limit: number;
  readonly before?: string | undefined;
}

/**
 * Jobs in the order in which they were added. A Map cannot be walked backwards, and is walked several times as slowly as
 * an array, in which removed jobs leave a hole for a while.
 */
export class JobList {
  #jobs: (Job | undefined)[] = [];
  readonly #places = new Map<string, number>();
  readonly #counts = new FieldCounts();
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
    const previous = place === undefined ? undefined : this.#jobs[place];
    this.#counts.changed(previous, job);
    if (place === undefined) {
      this.#places.set(job.id, this.#jobs.length);
      this.#jobs.push(job);
      if (job.timestamp < this.#newest) this.#isInOrder = false;
      this.#newest = job.timestamp;
    } else {
      this.#jobs[place] = job;
      if (job.timestamp !== previous?.timestamp) this.#isInOrder = false;
    }
  }

  remove(id: string): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    this.#counts.changed(this.#jobs[place], undefined);
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

  /** The same of those that match. */
  matching({ matches, only, after, limit, before }: JobFilter): JobPage {
    const end = this.#endOf(before);
    const known = only && this.#counts.of(only);
    const oldest = this.#isInOrder ? after : undefined;
    const jobs: Job[] = [];
    let total = 0;
    for (let at = this.#jobs.length - 1; at >= 0; at -= 1) {
      const job = this.#jobs[at];
      if (!job) continue;
      if (oldest !== undefined && job.timestamp <= oldest) break;
      if (!matches(job)) continue;
      total += 1;
      if (at < end && jobs.length < limit) jobs.push(job);
      // All others would be looked at only to be counted.
      if (known !== undefined && (jobs.length === limit || total === known)) break;
    }
    return { jobs, total: known ?? total };
  }

  #endOf(before: string | undefined): number {
    return before === undefined ? this.#jobs.length : (this.#places.get(before) ?? 0);
  }

  #close(): void {
    this.#jobs = this.#jobs.filter((job) => job !== undefined);
    for (const [place, job] of this.#jobs.entries()) this.#places.set((job as Job).id, place);
  }
}
