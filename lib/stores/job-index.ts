import type { Job } from '../job.js';
import { IdList } from './id-list.js';
import type { JobPage, JobQuery } from './job-store.js';
import type { JobMap } from './kept-job.js';

/**
 * Lists the jobs of a map newest first. It keeps only ids: of all jobs, of each user's, and by the backend's own id, so
 * that nobody's own jobs, and no single one, are searched for among everybody's.
 */
export class JobIndex {
  readonly #jobs: JobMap;
  readonly #all = new IdList();
  readonly #byUser = new Map<string, IdList>();
  readonly #byPromptId = new Map<string, Set<string>>();

  constructor(jobs: JobMap) {
    this.#jobs = jobs;
    for (const job of jobs.values()) this.added(job);
  }

  added(job: Job): void {
    this.#all.add(job.id);
    this.#link(job);
    if (job.user === undefined) return;
    const own = this.#byUser.get(job.user) ?? new IdList();
    this.#byUser.set(job.user, own);
    own.add(job.id);
  }

  changed(previous: Job, job: Job): void {
    if (previous.prompt_id === job.prompt_id) return;
    this.#unlink(previous);
    this.#link(job);
  }

  removed(job: Job): void {
    this.#all.remove(job.id);
    this.#unlink(job);
    if (job.user === undefined) return;
    const own = this.#byUser.get(job.user);
    own?.remove(job.id);
    if (own?.size === 0) this.#byUser.delete(job.user);
  }

  list(query: JobQuery): JobPage {
    const { before, limit, user, prompt_id, ...filters } = query;
    if (before !== undefined && !this.#mayBeShown(before, query)) {
      const { before: _before, ...others } = query;
      return { jobs: [], total: this.list({ ...others, limit: 0 }).total };
    }
    if (prompt_id !== undefined) return this.#ofPrompt(prompt_id, query);
    const ids = user === undefined ? this.#all : this.#byUser.get(user);
    if (!ids) return { jobs: [], total: 0 };
    if (Object.values(filters).some((filter) => filter !== undefined)) {
      return select(user === undefined ? this.#jobs.values() : this.#jobsOf(ids), query);
    }
    return { jobs: [...this.#jobsOf(ids.newest(limit, before))], total: ids.size };
  }

  /** Whether there is a job with this id, as far as whoever asks may know. */
  #mayBeShown(id: string, { user }: JobQuery): boolean {
    const job = this.#jobs.get(id);
    return job !== undefined && isOf(user, job);
  }

  /** A backend gives each prompt an id of its own, unless a client does, over and over again the same. */
  #ofPrompt(promptId: string, query: JobQuery): JobPage {
    const ids = this.#byPromptId.get(promptId) ?? new Set();
    const isEasy = ids.size <= 1 && query.before === undefined;
    return select(isEasy ? this.#jobsOf(ids) : this.#jobs.values(), query);
  }

  *#jobsOf(ids: Iterable<string>): Generator<Job> {
    for (const id of ids) {
      const job = this.#jobs.get(id);
      if (job !== undefined) yield job;
    }
  }

  #link({ id, prompt_id }: Job): void {
    if (prompt_id === undefined) return;
    const ids = this.#byPromptId.get(prompt_id) ?? new Set();
    this.#byPromptId.set(prompt_id, ids.add(id));
  }

  #unlink({ id, prompt_id }: Job): void {
    if (prompt_id === undefined) return;
    const ids = this.#byPromptId.get(prompt_id);
    ids?.delete(id);
    if (ids?.size === 0) this.#byPromptId.delete(prompt_id);
  }
}

/**
 * Those of the jobs, oldest first, that match. The total needs every one of them in any case, and a Map is walked forwards
 * ten times as fast as it is asked for one id after the other, so the last matches are kept in a ring.
 */
function select(jobs: Iterable<Job>, query: JobQuery): JobPage {
  const { before, limit } = query;
  const matches = matcherOf(query);
  const ring: Job[] = [];
  let candidates = 0;
  let total = 0;
  let isBefore = limit > 0;
  for (const job of jobs) {
    if (job.id === before) isBefore = false;
    if (!matches(job)) continue;
    total += 1;
    if (!isBefore) continue;
    ring[candidates % limit] = job;
    candidates += 1;
  }
  const oldest = candidates > limit ? candidates % limit : 0;
  return { jobs: [...ring.slice(oldest), ...ring.slice(0, oldest)].reverse(), total };
}

function matcherOf(query: JobQuery): (job: Job) => boolean {
  const { ip, status, backend, user, after, until, prompt_id } = query;
  const text = query.text?.toLowerCase();
  return (job) =>
    (ip === undefined || job.ip === ip) &&
    (status === undefined || job.status === status) &&
    (backend === undefined || job.backend === backend) &&
    isOf(user, job) &&
    (after === undefined || job.timestamp > after) &&
    (until === undefined || job.timestamp <= until) &&
    (prompt_id === undefined || job.prompt_id === prompt_id) &&
    // The dearest one comes last.
    (text === undefined || job.prompt.toLowerCase().includes(text));
}

function isOf(user: string | undefined, job: Job): boolean {
  return user === undefined || job.user === user;
}
