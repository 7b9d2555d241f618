import type { Identity } from '../auth/identity.js';
import { JobTrackerError, messageOf } from '../errors.js';
import type { BackendAnswer } from '../http/backend-call.js';
import { inParallel } from '../in-parallel.js';
import type { Logger } from '../logger.js';
import type { EntryTexts } from './entry-texts.js';
import type { HistoryIndex } from './history-index.js';
import { type HistoryQuery, readHistoryQuery, shownPlaces } from './history-query.js';
import { type HistoryMember, historyMember, historyMembers, historyText } from './history-text.js';
import type { IndexedJob } from './kept-entries.js';

/** Who asks for everything, and does so again and again, gets no more kept entries than so. */
const MOST_UNASKED = 200;
/** Where others' entries are left out, ComfyUI is asked for so many times more at a time, until there are enough. */
const MORE_AT_A_TIME = 4;
const READS_AT_ONCE = 16;
/** What a proxy between us and ComfyUI says where ComfyUI says nothing. */
export const PROXY_FAILURES: readonly number[] = [502, 503, 504];

/** Asks ComfyUI as whoever asks us would. `query` takes the place of the request's own. Rejects with `BACKEND_UNANSWERED`. */
export type AskComfyUI = (query?: URLSearchParams) => Promise<BackendAnswer>;

/** What is to be answered: ComfyUI's own head, where it gave one, with this body. */
export interface HistoryAnswer {
  readonly head: BackendAnswer | undefined;
  readonly body: Buffer;
}

export interface MergedHistoryOptions {
  readonly index: HistoryIndex;
  readonly texts: Pick<EntryTexts, 'get'>;
  /** What to call ComfyUI's address in messages. */
  readonly origin: string;
  readonly logger: Logger;
}

/** What ComfyUI answered: a history, or something else that is to be passed on; or nothing. */
type Live =
  | { readonly kind: 'history'; readonly head: BackendAnswer; readonly members: readonly HistoryMember[] }
  | { readonly kind: 'other'; readonly head: BackendAnswer }
  | { readonly kind: 'nothing'; readonly error: unknown; readonly head?: BackendAnswer };

/**
 * ComfyUI's history as it would be if ComfyUI never forgot: what it does not have any more comes from the store, in front
 * of what it has. What both have, ComfyUI says. Nobody gets what others have made here.
 */
export class MergedHistory {
  readonly #index: HistoryIndex;
  readonly #texts: Pick<EntryTexts, 'get'>;
  readonly #origin: string;
  readonly #logger: Logger;

  constructor({ index, texts, origin, logger }: MergedHistoryOptions) {
    this.#index = index;
    this.#texts = texts;
    this.#origin = origin;
    this.#logger = logger;
  }

  /** Answers `GET /history/{prompt_id}`. Rejects with `BACKEND_UNANSWERED` where neither has an entry to give. */
  async entry(ask: AskComfyUI, promptId: string, who: Identity): Promise<HistoryAnswer> {
    const live = await this.#live(ask, undefined, who);
    if (live.kind === 'other') return { head: live.head, body: live.head.body };
    if (live.kind === 'history') {
      const own = this.#ownOf(live.members, who);
      if (own.length > 0) return answerWith(live, own);
    }
    const kept = this.#index.entryOf(promptId, who);
    const members = kept ? await this.#membersOf([kept]) : [];
    return live.kind === 'history' ? answerWith(live, members) : answerWithout(live, members);
  }

  /** Answers `GET /history`. Rejects as above. */
  async list(ask: AskComfyUI, parameters: URLSearchParams, who: Identity): Promise<HistoryAnswer> {
    const query = readHistoryQuery(parameters);
    if (!query) return this.#unmerged(ask, who);
    const { maxItems, offset } = query;
    // Then ComfyUI's answer is the whole truth.
    if (who.isAdmin && this.#index.isEmpty) return this.#unmerged(ask, who);
    if (maxItems !== undefined && offset < 0)
      return this.#newest(ask, parameters, Math.max(0, maxItems), who);
    return this.#page(ask, parameters, query, who);
  }

  /** What ComfyUI makes of parameters that say nothing to us. */
  async #unmerged(ask: AskComfyUI, who: Identity): Promise<HistoryAnswer> {
    const live = await this.#live(ask, undefined, who);
    if (live.kind === 'history') return answerWith(live, this.#ownOf(live.members, who));
    if (live.kind === 'other') return { head: live.head, body: live.head.body };
    return answerWithout(live, []);
  }

  /** The last so many. Where ComfyUI has as many, it is asked for no more. */
  async #newest(
    ask: AskComfyUI,
    parameters: URLSearchParams,
    count: number,
    who: Identity,
  ): Promise<HistoryAnswer> {
    for (let asked = count; ; asked *= MORE_AT_A_TIME) {
      const query = asked === count ? undefined : withParameters(parameters, { max_items: String(asked) });
      const live = await this.#live(ask, query, who);
      if (live.kind === 'other') return { head: live.head, body: live.head.body };
      const all = live.kind === 'history' ? live.members : [];
      const own = this.#ownOf(all, who);
      if (own.length < count && all.length >= asked && asked < Number.MAX_SAFE_INTEGER / MORE_AT_A_TIME)
        continue;
      const shown = count === 0 ? [] : own.slice(-count);
      const kept = await this.#membersOf(this.#forgotten(count - shown.length, all, who));
      return live.kind === 'nothing' ? answerWithout(live, kept) : answerWith(live, [...kept, ...shown]);
    }
  }

  /** From an offset on, for which all that ComfyUI has must be known; or simply all. */
  async #page(
    ask: AskComfyUI,
    parameters: URLSearchParams,
    query: HistoryQuery,
    who: Identity,
  ): Promise<HistoryAnswer> {
    const live = await this.#live(ask, withParameters(parameters, { max_items: null, offset: null }), who);
    if (live.kind === 'other') return { head: live.head, body: live.head.body };
    const all = live.kind === 'history' ? live.members : [];
    const own = this.#ownOf(all, who);
    const most = query.maxItems === undefined ? MOST_UNASKED : Number.POSITIVE_INFINITY;
    const kept = this.#forgotten(most, all, who);
    const { start, end } = shownPlaces(query, kept.length + own.length);
    const members = await this.#membersOf(kept.slice(start, end));
    const shown = own.slice(Math.max(0, start - kept.length), Math.max(0, end - kept.length));
    return live.kind === 'nothing' ? answerWithout(live, members) : answerWith(live, [...members, ...shown]);
  }

  async #live(ask: AskComfyUI, query: URLSearchParams | undefined, who: Identity): Promise<Live> {
    let head: BackendAnswer;
    try {
      head = await ask(query);
    } catch (error) {
      if (!(error instanceof JobTrackerError) || error.code !== 'BACKEND_UNANSWERED') throw error;
      return { kind: 'nothing', error };
    }
    if (PROXY_FAILURES.includes(head.status)) return { kind: 'nothing', error: undefined, head };
    if (head.status !== 200) return { kind: 'other', head };
    const members = await historyMembers(head.body);
    if (members) return { kind: 'history', head, members };
    // What is in it cannot be told.
    if (!who.isAdmin) {
      throw new JobTrackerError('BACKEND_UNANSWERED', `${this.#origin} gave something else than a history`);
    }
    return { kind: 'other', head };
  }

  #ownOf(members: readonly HistoryMember[], who: Identity): readonly HistoryMember[] {
    const own = members.filter(({ promptId }) => !this.#index.isForeign(promptId, who));
    return own.length === members.length ? members : own;
  }

  /** The newest so many entries that ComfyUI does not have, the oldest of them first. */
  #forgotten(count: number, live: readonly HistoryMember[], who: Identity): IndexedJob[] {
    const jobs: IndexedJob[] = [];
    if (count <= 0) return jobs;
    const known = new Set(live.map(({ promptId }) => promptId));
    for (const job of this.#index.newestFirst(who)) {
      if (known.has(job.promptId)) continue;
      jobs.push(job);
      if (jobs.length === count) break;
    }
    return jobs.reverse();
  }

  /** What cannot be read is left out: the others are to be had all the same. */
  async #membersOf(jobs: readonly IndexedJob[]): Promise<HistoryMember[]> {
    const members = new Map<IndexedJob, HistoryMember>();
    await inParallel(jobs, READS_AT_ONCE, async (job) => {
      try {
        const text = await this.#texts.get(job.sidecar as string);
        if (text) members.set(job, historyMember(job.promptId, text));
        else this.#index.unlist(job.id);
      } catch (error) {
        this.#logger.warn(`The history entry of job ${job.id} could not be read: ${messageOf(error)}`);
      }
    });
    return jobs.flatMap((job) => members.get(job) ?? []);
  }
}

/** An answer in which nothing is changed is passed on as it came. */
function answerWith(
  { head, members }: Extract<Live, { kind: 'history' }>,
  shown: readonly HistoryMember[],
): HistoryAnswer {
  const isSame = shown.length === members.length && shown.every((member, n) => member === members[n]);
  return { head, body: isSame ? head.body : historyText(shown) };
}

function answerWithout(
  { head, error }: Extract<Live, { kind: 'nothing' }>,
  kept: readonly HistoryMember[],
): HistoryAnswer {
  if (kept.length > 0) return { head: undefined, body: historyText(kept) };
  if (head) return { head, body: head.body };
  throw error;
}

function withParameters(
  parameters: URLSearchParams,
  changes: Readonly<Record<string, string | null>>,
): URLSearchParams {
  const changed = new URLSearchParams(parameters);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) changed.delete(name);
    else changed.set(name, value);
  }
  return changed;
}
