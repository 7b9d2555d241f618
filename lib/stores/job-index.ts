import type { Job } from '../job.js';
import type { JobPage, JobQuery } from './job-store.js';
import type { JobMap } from './kept-job.js';

/** So many removed ids may lie in the list at least before it is cleared of them. */
const SLACK = 1000;

/** Lists the jobs of a map newest first. It keeps only their ids, because a Map cannot be walked backwards. */
export class JobIndex {
  readonly #jobs: JobMap;
  /** In creation order. Ids of removed jobs stay in for a while. */
  #ids: string[];
  readonly #removed = new Set<string>();

  constructor(jobs: JobMap) {
    this.#jobs = jobs;
    this.#ids = [...jobs.keys()];
  }

  added(id: string): void {
    // The id would be in the list twice.
    if (this.#removed.has(id)) this.#clear();
    this.#ids.push(id);
  }

  removed(id: string): void {
    this.#removed.add(id);
    if (this.#removed.size > SLACK + this.#ids.length / 2) this.#clear();
  }

  list(query: JobQuery): JobPage {
    const { before, limit: _limit, ...filters } = query;
    if (before !== undefined && !this.#mayBeShown(before, query)) {
      return { jobs: [], total: this.#select({ ...filters, limit: 0 }).total };
    }
    const isFiltered = Object.values(filters).some((filter) => filter !== undefined);
    return isFiltered ? this.#select(query) : this.#walk(query);
  }

  /** Whether there is a job with this id, as far as whoever asks may know. */
  #mayBeShown(id: string, { user }: JobQuery): boolean {
    const job = this.#jobs.get(id);
    return job !== undefined && isOf(user, job);
  }

  /** All jobs, so that only those on the page are touched. */
  #walk({ before, limit }: JobQuery): JobPage {
    const jobs: Job[] = [];
    const start = before === undefined ? this.#ids.length : this.#ids.lastIndexOf(before);
    for (let at = start - 1; at >= 0 && jobs.length < limit; at -= 1) {
      const job = this.#jobs.get(this.#ids[at] as string);
      if (job !== undefined) jobs.push(job);
    }
    return { jobs, total: this.#jobs.size };
  }

  /**
   * Those that match. The total needs every job in any case, and a Map is walked forwards ten times as fast as it is asked
   * for one id after the other, so the last matches are kept in a ring.
   */
  #select({ ip, status, backend, user, after, before, limit }: JobQuery): JobPage {
    const end = before === undefined ? undefined : this.#jobs.get(before);
    const ring: Job[] = [];
    let candidates = 0;
    let total = 0;
    let isBefore = limit > 0;
    for (const job of this.#jobs.values()) {
      if (job === end) isBefore = false;
      if (ip !== undefined && job.ip !== ip) continue;
      if (status !== undefined && job.status !== status) continue;
      if (backend !== undefined && job.backend !== backend) continue;
      if (!isOf(user, job)) continue;
      if (after !== undefined && job.timestamp <= after) continue;
      total += 1;
      if (!isBefore) continue;
      ring[candidates % limit] = job;
      candidates += 1;
    }
    const oldest = candidates > limit ? candidates % limit : 0;
    return { jobs: [...ring.slice(oldest), ...ring.slice(0, oldest)].reverse(), total };
  }

  #clear(): void {
    this.#ids = this.#ids.filter((id) => !this.#removed.has(id));
    this.#removed.clear();
  }
}

function isOf(user: string | undefined, job: Job): boolean {
  return user === undefined || job.user === user;
}
