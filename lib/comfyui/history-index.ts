import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Identity, mayTouch } from '../auth/identity.js';
import { type ComfyUIFile, isFinished, type Job } from '../job.js';
import type { JobEvents } from '../jobs/job-events.js';
import type { JobStore } from '../stores/job-store.js';
import { exactKey, leadsOut, looseKey } from './file-name.js';
import { type IndexedJob, KeptEntries } from './kept-entries.js';

/** So many jobs are put in order in one go. */
const PAGE_SIZE = 5_000;
/** So many copies of one file are enough to try. */
const MOST_COPIES = 10;

/** A job that has a file, and which of its files that is. */
export interface KeptFileOf {
  readonly job: IndexedJob;
  /** In the image store. */
  readonly path: string;
}

/** Where a file of ComfyUI's is kept, the newest first. `foreign`: it is somebody else's. */
export type FileLookup = readonly KeptFileOf[] | 'unknown' | 'foreign';

/**
 * Finds jobs by what ComfyUI calls them and their files, in memory. It goes by what happens to jobs, and follows the order
 * in which they ended: that is the order of ComfyUI's history.
 */
export class HistoryIndex {
  readonly #store: Pick<JobStore, 'walk'>;
  readonly #byId = new Map<string, IndexedJob>();
  /** Of several jobs with one id, the one that ended last is the last. */
  readonly #byPrompt = new Map<string, IndexedJob[]>();
  readonly #byFile = new Map<string, IndexedJob[]>();
  readonly #entries = new KeptEntries();
  /** Whose the jobs are that have no prompt id yet. */
  readonly #makers = new Map<string, string | undefined>();
  /** What has happened to jobs while the store is walked through. */
  #news: Map<string, Job | undefined> | undefined;

  constructor({ store, events }: { readonly store: Pick<JobStore, 'walk'>; readonly events: JobEvents }) {
    this.#store = store;
    events.on('created', ({ id, backend, user }) => {
      if (backend === 'comfyui') this.#makers.set(id, user);
    });
    events.on('completed', (job) => this.#ended(job));
    events.on('failed', (job) => this.#ended(job));
    events.on('removed', ({ id }) => {
      this.#news?.set(id, undefined);
      this.#remove(id);
    });
  }

  /** Learns what is kept. Rejects with the store's error, and may be called again then. */
  async open(): Promise<void> {
    const news = new Map<string, Job | undefined>();
    this.#news = news;
    const found: Job[] = [];
    for await (const page of this.#store.walk()) {
      for (const job of page) if (job.backend === 'comfyui' && job.prompt_id !== undefined) found.push(job);
      await nextTurn();
    }
    // Those that still run stand behind all that have ended.
    const endOf = (job: Job) =>
      isFinished(job) ? (job.finished_at ?? job.timestamp) : Number.POSITIVE_INFINITY;
    found.sort((a, b) => (endOf(a) === endOf(b) ? 0 : endOf(a) - endOf(b)));
    for (const [n, job] of found.entries()) {
      if (!news.has(job.id)) this.#add(job);
      if (n % PAGE_SIZE === 0) await nextTurn();
    }
    for (const job of news.values()) if (job) this.#add(job);
    this.#news = undefined;
  }

  /** A job has got its prompt id. */
  follow(id: string, promptId: string | undefined): void {
    if (promptId === undefined || this.#byId.has(id)) return;
    const user = this.#makers.get(id);
    this.#makers.delete(id);
    const names = { id, promptId, ...(user !== undefined && { user }) };
    this.#put({ ...names, files: [], paths: [], isRunning: true, isListed: false });
  }

  /** True where no entry is kept, of anybody. */
  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  /** Whether ComfyUI's entry under this id is of somebody else. One that nobody has made here is everybody's. */
  isForeign(promptId: string, who: Identity): boolean {
    if (who.isAdmin) return false;
    const jobs = this.#byPrompt.get(promptId) ?? [];
    // A prompt that is run again under its id takes the place of the earlier one when it has ended.
    const last = jobs.findLast(({ sidecar }) => sidecar !== undefined);
    return last ? !mayTouch(who, last) : jobs.some((job) => !mayTouch(who, job));
  }

  /**
   * Whether what ComfyUI knows by this job's prompt id may be an earlier job's of another user, which runs or has made
   * something. Clients may choose the ids themselves.
   */
  isOthers(id: string): boolean {
    const job = this.#byId.get(id);
    const jobs = (job && this.#byPrompt.get(job.promptId)) ?? [];
    return jobs
      .slice(0, jobs.indexOf(job as IndexedJob))
      .some(({ user, isRunning, sidecar }) => user !== job?.user && (isRunning || sidecar !== undefined));
  }

  /** The job with the entry that is kept under this id, as far as somebody may see it. */
  entryOf(promptId: string, who: Identity): IndexedJob | undefined {
    return this.#byPrompt.get(promptId)?.findLast((job) => job.isListed && mayTouch(who, job));
  }

  /** All jobs with an entry under this id that somebody may see: a prompt may have been run again. */
  entriesOf(promptId: string, who: Identity): IndexedJob[] {
    const jobs = this.#byPrompt.get(promptId) ?? [];
    return jobs.filter((job) => job.isListed && mayTouch(who, job));
  }

  get(id: string): IndexedJob | undefined {
    return this.#byId.get(id);
  }

  /** The jobs with entries that somebody may see, each prompt once. They may come and go meanwhile. */
  *newestFirst(who: Identity): Generator<IndexedJob, void> {
    for (const job of this.#entries.newestFirst()) if (this.#stands(job, who)) yield job;
  }

  /** What ComfyUI calls all jobs of somebody, also those that have no entry. */
  promptIdsOf(who: Identity): string[] {
    const ids = new Set<string>();
    for (const job of this.#byId.values()) if (mayTouch(who, job)) ids.add(job.promptId);
    return [...ids];
  }

  /** The entry of a job shall not be shown any more. */
  unlist(id: string): void {
    const job = this.#byId.get(id);
    if (job) this.#entries.remove(job);
  }

  find(file: ComfyUIFile, who: Identity): FileLookup {
    const likely = this.#byFile.get(looseKey(file)) ?? [];
    const key = exactKey(file);
    const own: KeptFileOf[] = [];
    let isOthers = false;
    // A cached file may be one of thousands of jobs.
    for (let at = likely.length - 1; at >= 0 && own.length < MOST_COPIES; at -= 1) {
      const job = likely[at] as IndexedJob;
      const path = job.paths[job.files.findIndex((one) => exactKey(one) === key)];
      if (path === undefined) continue;
      if (mayTouch(who, job)) own.push({ job, path });
      else isOthers = true;
    }
    if (own.length > 0) return own;
    if (isOthers) return 'foreign';
    if (who.isAdmin) return 'unknown';
    // Under this very name it is nobody's, but some systems may take it for the name of another one.
    return leadsOut(file) || likely.some((job) => !mayTouch(who, job)) ? 'foreign' : 'unknown';
  }

  #stands(job: IndexedJob, who: Identity): boolean {
    if (!mayTouch(who, job)) return false;
    return this.#byPrompt.get(job.promptId)?.length === 1 || this.entryOf(job.promptId, who) === job;
  }

  #ended(job: Job): void {
    if (job.backend !== 'comfyui') return;
    this.#makers.delete(job.id);
    this.#news?.set(job.id, job);
    this.#add(job);
  }

  #add({ id, prompt_id: promptId, user, sidecar, comfyui_files, output_paths, ...job }: Job): void {
    if (promptId === undefined) return;
    this.#remove(id);
    this.#put({
      id,
      promptId,
      // Somebody may have edited a record.
      files: Array.isArray(comfyui_files) ? comfyui_files : [],
      paths: Array.isArray(output_paths) ? output_paths : [],
      isRunning: !isFinished(job),
      isListed: isFinished(job) && sidecar !== undefined && job.history_deleted !== true,
      ...(user !== undefined && { user }),
      ...(sidecar !== undefined && { sidecar }),
    });
  }

  #put(job: IndexedJob): void {
    this.#byId.set(job.id, job);
    append(this.#byPrompt, job.promptId, job);
    for (const key of new Set(job.files.map(looseKey))) append(this.#byFile, key, job);
    if (job.isListed) this.#entries.add(job);
  }

  #remove(id: string): void {
    const job = this.#byId.get(id);
    if (!job) return;
    this.#byId.delete(id);
    this.#entries.remove(job);
    takeOut(this.#byPrompt, job.promptId, job);
    for (const key of new Set(job.files.map(looseKey))) takeOut(this.#byFile, key, job);
  }
}

function append(map: Map<string, IndexedJob[]>, key: string, job: IndexedJob): void {
  const jobs = map.get(key);
  if (jobs) jobs.push(job);
  else map.set(key, [job]);
}

function takeOut(map: Map<string, IndexedJob[]>, key: string, job: IndexedJob): void {
  const rest = map.get(key)?.filter((one) => one !== job) ?? [];
  if (rest.length > 0) map.set(key, rest);
  else map.delete(key);
}
