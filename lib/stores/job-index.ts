import type { Job } from '../job.js';
import { JobList } from './job-list.js';
import type { JobPage, JobQuery } from './job-store.js';
import { onlyTraitOf } from './trait-column.js';

/**
 * Lists jobs newest first: all of them, each user's, and those of one id of the backend's own, so that nobody's own jobs,
 * and no single one, are searched for among everybody's.
 */
export class JobIndex {
  readonly #all = new JobList();
  readonly #byUser = new Map<string, JobList>();
  readonly #byPromptId = new Map<string, Set<string>>();

  constructor(jobs: Iterable<Job>) {
    for (const job of jobs) this.added(job);
  }

  added(job: Job): void {
    this.#put(job);
    this.#link(job);
  }

  changed(previous: Job, job: Job): void {
    this.#put(job);
    if (previous.prompt_id === job.prompt_id) return;
    this.#unlink(previous);
    this.#link(job);
  }

  removed(job: Job): void {
    this.#all.remove(job.id);
    this.#unlink(job);
    const own = job.user === undefined ? undefined : this.#byUser.get(job.user);
    own?.remove(job.id);
    if (own?.size === 0) this.#byUser.delete(job.user as string);
  }

  list(query: JobQuery): JobPage {
    const { before, limit, user, prompt_id, ...filters } = query;
    if (before !== undefined && !this.#mayBeShown(before, query)) {
      const { before: _before, ...others } = query;
      return { jobs: [], total: this.list({ ...others, limit: 0 }).total };
    }
    if (prompt_id !== undefined) return this.#ofPrompt(prompt_id, query);
    const list = user === undefined ? this.#all : this.#byUser.get(user);
    if (!list) return { jobs: [], total: 0 };
    const { after, until, text, ...traits } = filters;
    const isFiltered = Object.values(filters).some((filter) => filter !== undefined);
    if (!isFiltered) return list.newest(limit, before);
    const hasOthers = after !== undefined || until !== undefined || text !== undefined;
    const trait = hasOthers ? undefined : onlyTraitOf(traits);
    return trait ? list.having(trait, limit, before) : list.matching(matcherOf(query), query);
  }

  /** Whether there is a job with this id, as far as whoever asks may know. */
  #mayBeShown(id: string, { user }: JobQuery): boolean {
    const job = this.#all.get(id);
    return job !== undefined && isOf(user, job);
  }

  /** A backend gives each prompt an id of its own, unless a client does, over and over again the same. */
  #ofPrompt(promptId: string, query: JobQuery): JobPage {
    const ids = this.#byPromptId.get(promptId) ?? new Set<string>();
    const matches = matcherOf(query);
    if (ids.size > 1 || query.before !== undefined) return this.#all.matching(matches, query);
    const [job] = [...ids].flatMap((id) => this.#all.get(id) ?? []);
    const isFound = job !== undefined && matches(job);
    return { jobs: isFound ? [job].slice(0, query.limit) : [], total: isFound ? 1 : 0 };
  }

  #put(job: Job): void {
    this.#all.put(job);
    if (job.user === undefined) return;
    const own = this.#byUser.get(job.user) ?? new JobList();
    this.#byUser.set(job.user, own);
    own.put(job);
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

/** Only what is asked for is looked at: most ask for one thing, of a hundred thousand jobs. */
function matcherOf({
  ip,
  status,
  backend,
  user,
  after,
  until,
  prompt_id,
  text,
}: JobQuery): (job: Job) => boolean {
  const tests: ((job: Job) => boolean)[] = [];
  if (ip !== undefined) tests.push((job) => job.ip === ip);
  if (status !== undefined) tests.push((job) => job.status === status);
  if (backend !== undefined) tests.push((job) => job.backend === backend);
  if (user !== undefined) tests.push((job) => job.user === user);
  if (after !== undefined) tests.push((job) => job.timestamp > after);
  if (until !== undefined) tests.push((job) => job.timestamp <= until);
  if (prompt_id !== undefined) tests.push((job) => job.prompt_id === prompt_id);
  // The dearest one comes last.
  const wanted = text?.toLowerCase();
  if (wanted !== undefined) tests.push((job) => job.prompt.toLowerCase().includes(wanted));
  const [only] = tests;
  return only && tests.length === 1 ? only : (job) => tests.every((test) => test(job));
}

function isOf(user: string | undefined, job: Job): boolean {
  return user === undefined || job.user === user;
}
