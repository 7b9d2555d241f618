import { JobTrackerError, messageOf, systemCodeOf } from './errors.js';
import type { Logger } from './logger.js';

const RETRY_AFTER_MS = 10_000;
/** A request waits so long for a folder that is being opened. */
const WAIT_MS = 2_000;

/** Whether the tracker can keep jobs: opens what it needs, and goes on trying where that fails. */
export class Readiness {
  /** Settles with the first attempt. */
  readonly ready: Promise<void>;
  readonly #open: () => Promise<void>;
  readonly #logger: Logger;
  #attempt: Promise<void>;
  #state: 'opening' | 'open' | 'failed' | 'closed' = 'opening';
  #failure: unknown;
  #retry: NodeJS.Timeout | undefined;

  constructor(open: () => Promise<void>, logger: Logger) {
    this.#open = open;
    this.#logger = logger;
    this.ready = this.#try();
    // Whoever does not look at `ready` shall not be ended by it.
    this.ready.catch(() => {});
    this.#attempt = this.ready;
  }

  /** Why jobs cannot be kept now; undefined where they can. */
  get failure(): string | undefined {
    if (this.#state === 'open') return undefined;
    if (this.#state === 'closed') return 'The job tracker has been closed';
    return this.#state === 'failed'
      ? messageOf(this.#failure)
      : 'The job tracker is still opening its folder';
  }

  /** Resolves to whether jobs can be kept now; waits a moment where that is about to be known. Never rejects. */
  async whenDecided(): Promise<boolean> {
    if (this.#state === 'opening') {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, WAIT_MS).unref();
      });
      await Promise.race([this.#attempt.catch(() => {}), late]);
      clearTimeout(timer);
    }
    return this.#state === 'open';
  }

  /** No more jobs are taken. Resolves once an attempt that was under way has ended. */
  async close(): Promise<void> {
    this.#state = 'closed';
    clearTimeout(this.#retry);
    await this.#attempt.catch(() => {});
  }

  async #try(): Promise<void> {
    try {
      await this.#open();
      if (this.#state === 'closed')
        throw new JobTrackerError('CLOSED', 'The job tracker was closed while it opened');
      if (this.#failure !== undefined) this.#logger.warn('The job tracker can keep jobs again');
      this.#state = 'open';
      this.#failure = undefined;
    } catch (error) {
      if (this.#state === 'closed') throw error;
      this.#state = 'failed';
      if (kindOf(error) !== kindOf(this.#failure)) {
        this.#logger.error(`Generations pass untracked until this is mended: ${messageOf(error)}`);
      }
      this.#failure = error;
      this.#retry = setTimeout(() => {
        this.#attempt = this.#try();
        this.#attempt.catch(() => {});
      }, RETRY_AFTER_MS).unref();
      throw error;
    }
  }
}

/** What two failures have in common that are said once: a message may hold what is another one each time. */
function kindOf(error: unknown): string {
  const codes = [systemCodeOf(error), systemCodeOf((error as Error | undefined)?.cause)].filter(Boolean);
  return codes.length > 0 ? codes.join(' ') : messageOf(error);
}
