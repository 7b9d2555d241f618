import type { ComfyUIFile } from '../job.js';

/** So many removed jobs may lie in the list at least before it is cleared of them. */
const SLACK = 1_000;

/** What is known in memory of a job of ComfyUI's. */
export interface IndexedJob {
  readonly id: string;
  readonly promptId: string;
  readonly user?: string;
  /** The file with its history entry, in the image store; absent where it has none. */
  readonly sidecar?: string;
  readonly files: readonly ComfyUIFile[];
  /** The same files in the image store, in their order. */
  readonly paths: readonly string[];
  /** Its end is not on record yet. */
  readonly isRunning?: boolean;
  /** It is shown in the history. */
  isListed: boolean;
}

/** The jobs that are shown in the history, in the order in which they ended. */
export class KeptEntries {
  #jobs: IndexedJob[] = [];
  /** Jobs that are not listed any more stay in for a while. */
  #removed = 0;

  get size(): number {
    return this.#jobs.length - this.#removed;
  }

  /** A job has ended, later than all the others. */
  add(job: IndexedJob): void {
    job.isListed = true;
    this.#jobs.push(job);
  }

  remove(job: IndexedJob): void {
    if (!job.isListed) return;
    job.isListed = false;
    this.#removed += 1;
    if (this.#removed <= SLACK + this.#jobs.length / 2) return;
    // A new list, so that whoever walks through the old one is not disturbed.
    this.#jobs = this.#jobs.filter(({ isListed }) => isListed);
    this.#removed = 0;
  }

  *newestFirst(): Generator<IndexedJob, void> {
    const jobs = this.#jobs;
    for (let at = jobs.length - 1; at >= 0; at -= 1) {
      const job = jobs[at] as IndexedJob;
      if (job.isListed) yield job;
    }
  }
}
