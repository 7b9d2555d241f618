import { hash } from 'node:crypto';
import { atMost } from '../at-most.js';
import { messageOf } from '../errors.js';
import { isFinished, type Job } from '../job.js';
import type { Logger } from '../logger.js';
import type { JobStore } from '../stores/job-store.js';
import type { JobEvents } from './job-events.js';

/** A request does not wait any longer to learn whether it is another try. */
const LOOK_UP_WITHIN_MS = 2_000;

/** What tells a request from any other. */
export interface RequestIdentity {
  /** A hash of the caller, the method, the path with its query, and the body. */
  readonly fingerprint: string;
  /** A hash of the caller and its `Idempotency-Key`, where it has sent one. */
  readonly idempotency?: string;
}

export interface RequestTraits {
  /** Who makes the request. */
  readonly caller: string;
  readonly method: string;
  /** The path with its query. */
  readonly url: string;
  readonly bodyHash: string;
  /** The value of `Idempotency-Key`. */
  readonly key: string | undefined;
}

export function identifyRequest({ caller, method, url, bodyHash, key }: RequestTraits): RequestIdentity {
  return {
    fingerprint: hashOf(caller, method, url, bodyHash),
    ...(key !== undefined && { idempotency: hashOf(caller, key) }),
  };
}

/** One client that is given a job's answer. Only the first call counts. */
export interface Delivery {
  /** The client has been handed the last byte, or a 202. */
  done(): void;
  /** The client has left before that. */
  lost(): void;
  /** There is no answer to be had: nobody is led to this job any more. */
  unavailable(): void;
}

/** The right to give one client the answer of a job. */
export interface Claim {
  readonly job: Job;
  readonly delivery: Delivery;
}

interface Entry {
  readonly id: string;
  readonly identity: RequestIdentity;
  /** How many are connected and wait for the answer, or read it. */
  clients: number;
  delivered: boolean;
  /** When the job was completed, in unix milliseconds. */
  completedMs: number | undefined;
  readonly waiting: (() => void)[];
}

export interface DeliveriesOptions {
  readonly store: JobStore;
  readonly events: JobEvents;
  /** How long after its end an answer may still be fetched by sending the same request again, in milliseconds. */
  readonly windowMs: number;
  /** Writes down that a job's answer has been delivered. */
  readonly onDelivered: (id: string) => void;
  readonly logger: Logger;
}

/** A request with a key that has no job yet: others with this key wait for it. */
interface Turn {
  readonly over: Promise<void>;
  readonly end: () => void;
}

/**
 * Who has been handed which answer. A request that is sent again because its answer got lost is led to the job that was
 * made for it.
 */
export class Deliveries {
  readonly #options: DeliveriesOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #byFingerprint = new Map<string, Set<Entry>>();
  readonly #byKey = new Map<string, Entry>();
  readonly #turns = new Map<string, Turn>();
  /** In the order in which the jobs were completed. */
  readonly #completed = new Set<Entry>();

  constructor(options: DeliveriesOptions) {
    this.#options = options;
    options.events.on('completed', ({ id }) => this.#onCompleted(id));
    options.events.on('failed', ({ id }) => this.#forget(this.#entries.get(id)));
    options.events.on('removed', ({ id }) => this.#forget(this.#entries.get(id)));
  }

  /** Learns what an earlier process has left: answers, and jobs that are still to run. May be called again. */
  async open(): Promise<void> {
    const sinceMs = Date.now() - this.#options.windowMs;
    const completed: { entry: Entry; endedMs: number }[] = [];
    for await (const page of this.#options.store.walk()) {
      for (const job of page) {
        const endedMs = (job.finished_at ?? 0) * 1000;
        if (job.status === 'Failed' || (isFinished(job) && endedMs < sinceMs)) continue;
        const entry = this.#entries.has(job.id) ? undefined : this.#remember(job);
        if (!entry) continue;
        entry.delivered = job.delivered === true;
        if (isFinished(job)) completed.push({ entry, endedMs });
      }
    }
    completed.sort((a, b) => a.endedMs - b.endedMs);
    for (const { entry, endedMs } of completed) this.#complete(entry, endedMs);
  }

  /**
   * The job whose answer this request is to get, and the right to give it; undefined where the request is a new one, for
   * which `begin` or `giveUp` has to be called then. `mismatch`: its `Idempotency-Key` came with another request before.
   * Never rejects.
   */
  async claim(identity: RequestIdentity): Promise<Claim | 'mismatch' | undefined> {
    this.#expire();
    const { fingerprint, idempotency } = identity;
    if (idempotency !== undefined) return await this.#claimByKey(idempotency, fingerprint);
    for (const entry of this.#byFingerprint.get(fingerprint) ?? []) {
      if (!isLost(entry)) continue;
      const job = await this.#usableJob(entry);
      // Somebody may have come first meanwhile.
      if (job && isLost(entry)) return { job, delivery: this.#deliverTo(entry) };
    }
    return undefined;
  }

  /** A job has been recorded, for a client that waits for its answer. Undefined for one without a fingerprint. */
  begin(job: Pick<Job, 'id' | 'fingerprint' | 'idempotency'>): Delivery | undefined {
    const entry = this.#remember(job);
    this.giveUp(job);
    return entry && this.#deliverTo(entry);
  }

  /** A request that was a new one gets no job. */
  giveUp({ idempotency }: Pick<RequestIdentity, 'idempotency'>): void {
    if (idempotency !== undefined) this.#endTurn(idempotency);
  }

  /** A job has ended, be it that its end could not be recorded. */
  over(id: string, isFailed: boolean): void {
    const entry = this.#entries.get(id);
    if (!entry || entry.completedMs !== undefined) return;
    if (isFailed) this.#forget(entry);
    else this.#complete(entry, Date.now());
  }

  /** True where nobody waits for a job's answer any more, or has had it. */
  isAbandoned(id: string): boolean {
    const entry = this.#entries.get(id);
    return !entry || (entry.clients === 0 && !entry.delivered);
  }

  /** Resolves once a job has ended, or is known no more. */
  ended(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (!entry || entry.completedMs !== undefined) return Promise.resolve();
    return new Promise((resolve) => entry.waiting.push(resolve));
  }

  async #claimByKey(key: string, fingerprint: string): Promise<Claim | 'mismatch' | undefined> {
    await this.#takeTurn(key);
    const entry = this.#byKey.get(key);
    const isOther = entry !== undefined && entry.identity.fingerprint !== fingerprint;
    const job = entry && !isOther ? await this.#usableJob(entry) : undefined;
    if (isOther || job) this.#endTurn(key);
    if (isOther) return 'mismatch';
    return entry && job && { job, delivery: this.#deliverTo(entry) };
  }

  /** Of two requests with one key that come at once, the second one is to find the job of the first. */
  async #takeTurn(key: string): Promise<void> {
    for (let turn = this.#turns.get(key); turn; turn = this.#turns.get(key)) await turn.over;
    let end = () => {};
    const over = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#turns.set(key, { over, end });
  }

  #endTurn(key: string): void {
    const turn = this.#turns.get(key);
    this.#turns.delete(key);
    turn?.end();
  }

  /** A job that an interrupt or a skip may have spoilt is nobody's lost answer, nor is one that cannot be looked up. */
  async #usableJob({ id }: Entry): Promise<Job | undefined> {
    let job: Job | undefined;
    const looking = (async () => {
      job = await this.#options.store.get(id);
    })();
    try {
      if (!(await atMost(LOOK_UP_WITHIN_MS, looking))) throw new Error('the store does not answer');
    } catch (error) {
      this.#options.logger.warn(`Job ${id} cannot be looked up for another try: ${messageOf(error)}`);
      return undefined;
    }
    return job && job.status !== 'Failed' && job.disturbed_by === undefined ? job : undefined;
  }

  #remember({
    id,
    fingerprint,
    idempotency,
  }: Pick<Job, 'id' | 'fingerprint' | 'idempotency'>): Entry | undefined {
    if (fingerprint === undefined) return undefined;
    const entry: Entry = {
      id,
      identity: { fingerprint, ...(idempotency !== undefined && { idempotency }) },
      clients: 0,
      delivered: false,
      completedMs: undefined,
      waiting: [],
    };
    this.#entries.set(id, entry);
    const same = this.#byFingerprint.get(fingerprint);
    if (same) same.add(entry);
    else this.#byFingerprint.set(fingerprint, new Set([entry]));
    if (idempotency !== undefined) this.#byKey.set(idempotency, entry);
    return entry;
  }

  #deliverTo(entry: Entry): Delivery {
    let isOver = false;
    const once = (step: () => void) => () => {
      if (isOver) return;
      isOver = true;
      entry.clients -= 1;
      step();
    };
    entry.clients += 1;
    return {
      done: once(() => {
        const isNews = !entry.delivered;
        entry.delivered = true;
        if (isNews && this.#entries.has(entry.id)) this.#options.onDelivered(entry.id);
        this.#forgetIfDone(entry);
      }),
      lost: once(() => {}),
      unavailable: once(() => this.#forget(entry)),
    };
  }

  #onCompleted(id: string): void {
    const entry = this.#entries.get(id);
    if (entry) this.#complete(entry, Date.now());
  }

  #complete(entry: Entry, completedMs: number): void {
    entry.completedMs = completedMs;
    this.#completed.add(entry);
    this.#wake(entry);
    this.#forgetIfDone(entry);
  }

  /** An answer that has arrived is asked for once more only by its key; nobody else can be reading it then. */
  #forgetIfDone(entry: Entry): void {
    const isDone = entry.delivered && entry.completedMs !== undefined;
    if (isDone && entry.identity.idempotency === undefined) this.#forget(entry);
  }

  #expire(): void {
    const sinceMs = Date.now() - this.#options.windowMs;
    for (const entry of this.#completed) {
      if ((entry.completedMs ?? 0) >= sinceMs) return;
      this.#forget(entry);
    }
  }

  #forget(entry: Entry | undefined): void {
    if (!entry) return;
    const { fingerprint, idempotency } = entry.identity;
    this.#entries.delete(entry.id);
    this.#completed.delete(entry);
    const same = this.#byFingerprint.get(fingerprint);
    same?.delete(entry);
    if (same?.size === 0) this.#byFingerprint.delete(fingerprint);
    if (idempotency !== undefined && this.#byKey.get(idempotency) === entry) this.#byKey.delete(idempotency);
    this.#wake(entry);
  }

  #wake(entry: Entry): void {
    for (const resolve of entry.waiting.splice(0)) resolve();
  }
}

/** While a client is there, the same request is another one: people ask for two pictures by asking twice. */
function isLost({ clients, delivered, identity }: Entry): boolean {
  return clients === 0 && !delivered && identity.idempotency === undefined;
}

function hashOf(...parts: readonly string[]): string {
  return hash('sha256', JSON.stringify(parts), 'base64url');
}
