import type { Job } from '../job.js';
import type { JobPage, JobQuery } from './job-store.js';
import type { JobMap } from './kept-job.js';

/** So many places of removed jobs may lie in the list at least before it is cleared of them. */
const SLACK = 1000;

/**
 * Lists the jobs of a map newest first. A Map cannot be walked backwards, and is walked several times as slowly as an
 * array: so they stand in one, too.
 */
export class JobIndex {
  readonly #map: JobMap;
  /** In creation order. The place of a removed job is empty for a while. */
  #jobs: (Job | undefined)[] = [];
  readonly #places = new Map<string, number>();

  constructor(jobs: JobMap) {
    this.#map = jobs;
    this.#rebuild();
  }

  /** The job is in the map now: it is new, or has been changed. */
  put(job: Job): void {
    const place = this.#places.get(job.id);
    if (place !== undefined) {
      this.#jobs[place] = job;
      return;
    }
    this.#places.set(job.id, this.#jobs.length);
    this.#jobs.push(job);
  }

  /** The job is not in the map any more. */
  removed(id: string): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    this.#places.delete(id);
    this.#jobs[place] = undefined;
    if (this.#jobs.length > SLACK + this.#map.size * 1.5) this.#rebuild();
  }

  list(query: JobQuery): JobPage {
    const { before, limit: _limit, ...filters } = query;
    const end = before === undefined ? this.#jobs.length : this.#placeOf(before, query);
    const isFiltered = Object.values(filters).some((filter) => filter !== undefined);
    return isFiltered ? this.#select(query, end) : this.#walk(query, end);
  }

  /** Where the job with this id stands, as far as whoever asks may know; else 0, which nothing stands before. */
  #placeOf(id: string, { user }: JobQuery): number {
    const place = this.#places.get(id);
    const job = place === undefined ? undefined : this.#jobs[place];
    return place !== undefined && job !== undefined && isOf(user, job) ? place : 0;
  }

  /** All jobs, so that only those on the page are touched. */
  #walk({ limit }: JobQuery, end: number): JobPage {
    const jobs: Job[] = [];
    for (let at = end - 1; at >= 0 && jobs.length < limit; at -= 1) {
      const job = this.#jobs[at];
      if (job !== undefined) jobs.push(job);
    }
    return { jobs, total: this.#map.size };
  }

  /** Those that match. The total needs every job in any case. */
  #select({ ip, status, backend, user, after, limit }: JobQuery, end: number): JobPage {
    const jobs: Job[] = [];
    let total = 0;
    for (let at = this.#jobs.length - 1; at >= 0; at -= 1) {
      const job = this.#jobs[at];
      if (job === undefined) continue;
      if (ip !== undefined && job.ip !== ip) continue;
      if (status !== undefined && job.status !== status) continue;
      if (backend !== undefined && job.backend !== backend) continue;
      if (!isOf(user, job)) continue;
      if (after !== undefined && job.timestamp <= after) continue;
      total += 1;
      if (at < end && jobs.length < limit) jobs.push(job);
    }
    return { jobs, total };
  }

  #rebuild(): void {
    this.#jobs = [...this.#map.values()];
    this.#places.clear();
    for (const [place, job] of this.#jobs.entries()) this.#places.set((job as Job).id, place);
  }
}

function isOf(user: string | undefined, job: Job): boolean {
  return user === undefined || job.user === user;
}
