import { randomBytes } from 'node:crypto';
import type { Job } from '../job.js';

/** So many jobs have their last change remembered. */
const MAX_CHANGES = 1_000;
const RESUME_ID = /^([0-9a-f]{16})-(\d{1,15})$/;

/** What has become of a job. */
export interface Change {
  readonly number: number;
  readonly kind: 'status' | 'removed';
  readonly job: Job;
}

/**
 * The last change of each of the jobs that changed last, for clients whose connection broke. It holds the records that
 * the store holds anyway, so that it may be kept while nobody is connected: that is when it is needed.
 */
export class RecentChanges {
  /** Another process counts anew. */
  readonly #process = randomBytes(8).toString('hex');
  /** By the job's id, the oldest change first. */
  readonly #changes = new Map<string, Change>();
  #last = 0;
  /** The number of the newest change that is no longer here. */
  #forgotten = 0;

  add(kind: Change['kind'], job: Job): Change {
    this.#last += 1;
    const change: Change = { number: this.#last, kind, job };
    // Anew, so that it stands last.
    this.#changes.delete(job.id);
    this.#changes.set(job.id, change);
    const [oldest] = this.#changes.size > MAX_CHANGES ? this.#changes.values() : [];
    if (oldest) {
      this.#changes.delete(oldest.job.id);
      this.#forgotten = oldest.number;
    }
    return change;
  }

  /** What a client is told as the id of its last event: that of a change, or that of the present. */
  resumeId(number = this.#last): string {
    return `${this.#process}-${number}`;
  }

  /** The changes after that of a resume id, each job's last one only; undefined where that cannot be told. */
  since(resumeId: string): Change[] | undefined {
    const [, process, text] = RESUME_ID.exec(resumeId) ?? [];
    const number = Number(text);
    if (process !== this.#process || number < this.#forgotten || number > this.#last) return undefined;
    return [...this.#changes.values()].filter((change) => change.number > number);
  }
}
