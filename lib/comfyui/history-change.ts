import { type Identity, mayTouch } from '../auth/identity.js';
import { jsonOf } from '../backends/request-values.js';
import { JobTrackerError } from '../errors.js';
import type { BackendAnswer } from '../http/backend-call.js';
import { inParallel } from '../in-parallel.js';
import type { JobStore } from '../stores/job-store.js';
import { isObject } from '../value-kind.js';
import type { HistoryIndex } from './history-index.js';

/** So many records are changed at once, so that they share the store's syncs. */
const AT_ONCE = 500;

/** What `POST /history` asks for. */
interface HistoryChange {
  readonly clear: boolean;
  readonly ids: readonly string[];
}

export interface HistoryChangesOptions {
  readonly index: HistoryIndex;
  readonly store: Pick<JobStore, 'update'>;
  /** The jobs whose entries have been read and that have not ended yet, by what ComfyUI calls them. */
  readonly ending: () => ReadonlyMap<string, string>;
}

/** Takes entries out of the history, at ComfyUI and here. The jobs stay, with what they made. */
export class HistoryChanges {
  readonly #options: HistoryChangesOptions;

  constructor(options: HistoryChangesOptions) {
    this.#options = options;
  }

  /**
   * Resolves to ComfyUI's answer once what it has agreed to is durable here, too. Who may not touch everything takes out
   * no more than what is theirs, or nobody's.
   *
   * @param send gives ComfyUI a body; another one than the client's is JSON.
   * @throws JobTrackerError `INVALID_PARAMETER` where it cannot be told whose entries would go; `NOT_STORED`.
   */
  async apply(
    body: Buffer,
    who: Identity,
    send: (body: Buffer) => Promise<BackendAnswer>,
  ): Promise<BackendAnswer> {
    const change = readChange(body);
    const answer = await send(who.isAdmin ? body : this.#ownChange(change, who));
    if (change && answer.status >= 200 && answer.status <= 299) await this.#unlist(change, who);
    return answer;
  }

  #ownChange(change: HistoryChange | undefined, who: Identity): Buffer {
    if (!change) {
      throw new JobTrackerError(
        'INVALID_PARAMETER',
        'Expected a JSON object with `clear`, or with `delete` and a list of prompt ids, got something else',
      );
    }
    const { index } = this.#options;
    const own = change.clear ? index.promptIdsOf(who) : [];
    const ids = new Set([...own, ...change.ids].filter((id) => !index.isForeign(id, who)));
    return Buffer.from(JSON.stringify({ delete: [...ids] }));
  }

  async #unlist({ clear, ids }: HistoryChange, who: Identity): Promise<void> {
    const { index, store, ending } = this.#options;
    const gone = clear ? [...index.newestFirst(who)].map(({ promptId }) => promptId) : ids;
    const jobs = new Set(gone.flatMap((promptId) => index.entriesOf(promptId, who).map(({ id }) => id)));
    for (const [promptId, id] of ending()) {
      const running = clear || ids.includes(promptId) ? index.get(id) : undefined;
      if (running && mayTouch(who, running)) jobs.add(id);
    }
    await inParallel([...jobs], AT_ONCE, async (id) => {
      await store.update(id, { history_deleted: true });
      index.unlist(id);
    });
  }
}

/** Undefined where it is not what ComfyUI expects. */
function readChange(body: Buffer): HistoryChange | undefined {
  // What is none, ComfyUI will say what is wrong with.
  const change = jsonOf(body.toString());
  if (!isObject(change)) return undefined;
  const ids = change.delete ?? [];
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === 'string')) return undefined;
  return { clear: isTrue(change.clear), ids };
}

/** As Python sees it. */
function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return isObject(value) ? Object.keys(value).length > 0 : Boolean(value);
}
