import { statfs } from 'node:fs/promises';
import type { Backend } from './backends/backend.js';
import { messageOf } from './errors.js';
import { callBackend } from './http/backend-call.js';
import type { ImageStore } from './images/image-store.js';
import type { BackendName } from './job.js';
import type { JobStore } from './stores/job-store.js';

/** What has not answered within this time counts as not well. */
const ANSWER_WITHIN_MS = 3_000;
/** So long one look serves everybody who asks: health is asked for by machines, also without a login. */
const SHARED_MS = 1_000;

/** Whether one part works. */
export interface PartHealth {
  readonly ok: boolean;
  /** Why not, for people. */
  readonly error?: string;
}

/** As `GET /job-tracker/health` gives it. */
export interface HealthReport {
  /** True where the store, the images and every backend are well. */
  readonly ok: boolean;
  readonly store: PartHealth;
  readonly images: PartHealth;
  /** Those whose address is known. */
  readonly backends: Readonly<Partial<Record<BackendName, PartHealth>>>;
  /** How many jobs are at a backend, and how many wait for that. */
  readonly queue: { readonly running: number; readonly waiting: number };
  /** In bytes. What of the filesystem cannot be told is absent. */
  readonly disk: {
    readonly free_bytes?: number;
    readonly total_bytes?: number;
    /** All that is kept of jobs. */
    readonly images_bytes: number;
  };
}

export interface HealthOptions {
  readonly store: JobStore;
  readonly images: ImageStore;
  readonly backends: {
    /** Those whose address is not known cannot be looked at. */
    readonly all: readonly {
      readonly backend: Pick<Backend, 'name' | 'title' | 'pingPath'>;
      /** May hold credentials, which are never shown. */
      readonly url: URL | undefined;
    }[];
    readonly counts: HealthReport['queue'];
  };
  /** Why jobs cannot be kept now; undefined where they can. */
  readonly failure: () => string | undefined;
  /** Where records and images are, to tell how full the disk is. */
  readonly folder: string;
  /** The size of all that is kept of jobs. */
  readonly keptBytes: () => number;
}

/** Looks whether everything works that a job needs. */
export class Health {
  readonly #options: HealthOptions;
  readonly #store: Probe<void>;
  readonly #images: Probe<void>;
  readonly #backends: readonly { readonly name: BackendName; readonly probe: Probe<void> }[];
  readonly #disk: Probe<{ free_bytes: number; total_bytes: number }>;
  #report: Promise<HealthReport> | undefined;

  constructor(options: HealthOptions) {
    const { store, images, backends, folder } = options;
    this.#options = options;
    this.#store = new Probe('The record store', async () => store.check?.());
    this.#images = new Probe('The image store', async () => images.check?.());
    this.#backends = backends.all.flatMap(({ backend: { name, title, pingPath }, url }) => {
      if (!url) return [];
      const ping = async () => {
        try {
          const { status } = await callBackend(url, { path: pingPath, timeoutMs: ANSWER_WITHIN_MS });
          // What a proxy in front of a backend says that is down; forks answer 404 to a path that they do not have.
          if (status >= 500) throw new Error(`${url.origin} answered ${status}`);
        } catch (cause) {
          throw new Error(`${title} at ${messageOf(cause)}`, { cause });
        }
      };
      return [{ name, probe: new Probe(`${title} at ${url.origin}`, ping) }];
    });
    this.#disk = new Probe('The disk', async () => {
      const { bavail, blocks, bsize } = await statfs(folder);
      return { free_bytes: bavail * bsize, total_bytes: blocks * bsize };
    });
  }

  /** Resolves within about 3 s, whatever hangs. Who asks within a second of the last look gets what that has found. */
  look(): Promise<HealthReport> {
    this.#report ??= this.#look().finally(() => {
      setTimeout(() => {
        this.#report = undefined;
      }, SHARED_MS).unref();
    });
    return this.#report;
  }

  async #look(): Promise<HealthReport> {
    const { keptBytes } = this.#options;
    const [store, images, disk, ...pings] = await Promise.all([
      this.#lookAtStore(),
      this.#images.outcome(),
      this.#disk.outcome(),
      ...this.#backends.map(({ probe }) => probe.outcome()),
    ]);
    const backends = Object.fromEntries(
      this.#backends.map(({ name }, index) => [name, partOf(pings[index] as Outcome<void>)]),
    );
    return {
      ok: [store, images, ...pings].every(({ ok }) => ok),
      store,
      images: partOf(images),
      backends,
      queue: this.#options.backends.counts,
      disk: { ...(disk.ok && disk.value), images_bytes: keptBytes() },
    };
  }

  async #lookAtStore(): Promise<PartHealth> {
    const failure = this.#options.failure();
    return failure === undefined ? partOf(await this.#store.outcome()) : { ok: false, error: failure };
  }
}

type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: string };

/** Tries one thing that may hang: it is waited for only so long, and not tried again before it has come to an end. */
class Probe<T> {
  readonly #what: string;
  readonly #attempt: () => Promise<T>;
  #running: Promise<Outcome<T>> | undefined;

  /** @param what the subject of a sentence for people. */
  constructor(what: string, attempt: () => Promise<T>) {
    this.#what = what;
    this.#attempt = attempt;
  }

  /** Resolves within 3 s of the attempt's beginning; at once where that is longer ago. Never rejects. */
  outcome(): Promise<Outcome<T>> {
    this.#running ??= this.#try();
    return this.#running;
  }

  #try(): Promise<Outcome<T>> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<Outcome<T>>((resolve) => {
      const error = `${this.#what} did not answer within ${ANSWER_WITHIN_MS / 1000} seconds`;
      timer = setTimeout(resolve, ANSWER_WITHIN_MS, { ok: false, error } as const).unref();
    });
    const outcome = this.#attempt().then(
      (value): Outcome<T> => ({ ok: true, value }),
      (error: unknown): Outcome<T> => ({ ok: false, error: messageOf(error) }),
    );
    void outcome.then(() => {
      clearTimeout(timer);
      this.#running = undefined;
    });
    return Promise.race([outcome, late]);
  }
}

function partOf(outcome: Outcome<unknown>): PartHealth {
  return outcome.ok ? { ok: true } : { ok: false, error: outcome.error };
}
