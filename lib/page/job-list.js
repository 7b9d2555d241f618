import { isFinished, listJobs } from './api.js';
import { byId, h } from './dom.js';
import { listQuery } from './filters.js';
import { dayKey, dayName } from './format.js';
import { jobCard } from './job-card.js';
import { notify } from './notices.js';

/** @typedef {import('./api.js').Job} Job */
/** Some jobs of one day in a row: what is shown or left out at once. @typedef {{ day: string, jobs: Job[], list: HTMLOListElement, isShown: boolean }} Chunk */

const PAGE = 60;
/** Chunks farther than that from what is seen have no cards: the page stays light, however far somebody goes back. */
const KEPT_AROUND = '1500px 0px';
/** While somebody is at the top and new jobs come in, so many are kept in memory. */
const KEPT_AT_TOP = 600;

/** The jobs that have ended, newest first, a page at a time as somebody scrolls. */
export class JobList {
  #place = byId('jobs', HTMLElement);
  #more = byId('more', HTMLButtonElement);
  #filters = /** @type {import('./filters.js').Filters | undefined} */ (undefined);
  /** @type {Chunk[]} */
  #chunks = [];
  /** @type {Map<string, Chunk>} */
  #chunkOf = new Map();
  /** The job before which the next page begins. @type {string | undefined} */
  #cursor;
  #hasMore = false;
  /** Aborted when what is shown is no longer what is being loaded. */
  #loading = new AbortController();
  /** @type {Promise<void> | undefined} */
  #loadingMore;
  #visible = new IntersectionObserver((entries) => this.#showVisible(entries), { rootMargin: KEPT_AROUND });
  #end = new IntersectionObserver((entries) => this.#onEnd(entries), { rootMargin: '800px 0px' });

  constructor() {
    this.#more.addEventListener('click', () => this.#askForMore());
    this.#end.observe(this.#more);
  }

  get size() {
    return this.#chunkOf.size;
  }

  /**
   * Begins anew. Resolves to how many jobs match in all, those that have not ended too; undefined where something newer has
   * begun in the meantime. Rejects with ApiError, and then shows what it has shown.
   *
   * @param {import('./filters.js').Filters} filters
   * @returns {Promise<number | undefined>}
   */
  async load(filters) {
    this.#loading.abort();
    const loading = new AbortController();
    this.#loading = loading;
    this.#loadingMore = undefined;
    this.#place.setAttribute('aria-busy', 'true');
    try {
      const { jobs, total, hasMore } = await listJobs({ ...listQuery(filters), limit: PAGE }, loading.signal);
      if (loading.signal.aborted) return undefined;
      this.#filters = filters;
      this.#empty();
      this.#take(jobs, hasMore);
      return total;
    } catch (error) {
      if (loading.signal.aborted) return undefined;
      throw error;
    } finally {
      if (!loading.signal.aborted) this.#place.removeAttribute('aria-busy');
    }
  }

  /** Shows a job that has just ended, or has changed. @param {Job} job */
  put(job) {
    const known = this.#chunkOf.get(job.id);
    if (known) {
      const at = known.jobs.findIndex(({ id }) => id === job.id);
      known.jobs[at] = job;
      if (known.isShown) known.list.children[at]?.replaceWith(jobCard(job));
      return;
    }
    const last = this.#chunks.at(-1)?.jobs.at(-1);
    // It is farther back than what has been loaded, and comes with its page.
    if (this.#hasMore && (!last || job.timestamp < last.timestamp)) return;
    this.#insert(job);
    if (scrollY < innerHeight) this.#trim();
  }

  /** @param {string} id */
  remove(id) {
    const chunk = this.#chunkOf.get(id);
    if (!chunk) return;
    if (this.#cursor === id) this.#cursor = this.neighbour(id, -1)?.id;
    const at = chunk.jobs.findIndex((job) => job.id === id);
    chunk.jobs.splice(at, 1);
    this.#chunkOf.delete(id);
    if (chunk.isShown) chunk.list.children[at]?.remove();
    if (chunk.jobs.length === 0) this.#drop(chunk);
    // A page of which all jobs go has no end that could be scrolled to.
    if (this.#hasMore && this.size < PAGE / 2) this.#askForMore();
  }

  /** @param {string} id */
  get(id) {
    return this.#chunkOf.get(id)?.jobs.find((job) => job.id === id);
  }

  /** The job beside this one: 1 is the next older. @param {string} id @param {1 | -1} step @returns {Job | undefined} */
  neighbour(id, step) {
    const chunk = this.#chunkOf.get(id);
    if (!chunk) return undefined;
    const at = chunk.jobs.findIndex((job) => job.id === id) + step;
    const beside =
      chunk.jobs[at] ?? this.#chunks[this.#chunks.indexOf(chunk) + step]?.jobs.at(step < 0 ? -1 : 0);
    // Who goes through the pictures one by one comes to the end of what is loaded, too.
    if (step > 0 && this.#chunks.at(-1) === chunk && at > chunk.jobs.length - 5) this.#askForMore();
    return beside;
  }

  /** Where the focus goes when what has had it is gone. @param {string} id */
  focus(id) {
    const card = this.#place.querySelector(`[data-id="${CSS.escape(id)}"] .open`);
    if (!(card instanceof HTMLElement)) return false;
    card.focus();
    return true;
  }

  #empty() {
    this.#visible.disconnect();
    this.#chunks = [];
    this.#chunkOf.clear();
    this.#place.replaceChildren();
    this.#cursor = undefined;
  }

  /** @param {Job[]} jobs @param {boolean} hasMore */
  #take(jobs, hasMore) {
    this.#cursor = jobs.at(-1)?.id ?? this.#cursor;
    this.#hasMore = hasMore;
    this.#more.hidden = !hasMore;
    for (const job of jobs) {
      if (isFinished(job) && !this.#chunkOf.has(job.id)) this.#append(job);
    }
    // What is at hand may all be running still.
    this.#end.unobserve(this.#more);
    this.#end.observe(this.#more);
  }

  #askForMore() {
    const { signal } = this.#loading;
    this.#loadingMore ??= this.#loadMore(signal)
      .catch((error) => {
        if (!signal.aborted) notify(error.message, 'error');
      })
      .finally(() => {
        if (!signal.aborted) this.#loadingMore = undefined;
      });
    return this.#loadingMore;
  }

  /** @param {AbortSignal} signal @param {string | undefined} [before] @param {number} [triesLeft] @returns {Promise<void>} */
  async #loadMore(signal, before = this.#cursor, triesLeft = 3) {
    if (!this.#hasMore || !this.#filters) return;
    const query = { ...listQuery(this.#filters), limit: PAGE, before };
    const { jobs, hasMore } = await listJobs(query, signal);
    if (signal.aborted) return;
    if (jobs.length === 0 && before !== undefined && triesLeft > 0) {
      // Either this is the end, or the job from which to go on has been removed without our knowing.
      const known = this.#chunkOf.has(before) ? this.neighbour(before, -1) : this.#chunks.at(-1)?.jobs.at(-1);
      if (known) return this.#loadMore(signal, known.id, triesLeft - 1);
    }
    this.#take(jobs, hasMore);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #onEnd(entries) {
    if (entries.at(-1)?.isIntersecting && !this.#more.hidden) this.#askForMore();
  }

  /** @param {Job} job */
  #append(job) {
    const day = dayKey(job.timestamp);
    let chunk = this.#chunks.at(-1);
    if (!chunk || chunk.day !== day || chunk.jobs.length >= PAGE)
      chunk = this.#addChunk(day, this.#chunks.length, job);
    chunk.jobs.push(job);
    this.#chunkOf.set(job.id, chunk);
    if (chunk.isShown) chunk.list.append(jobCard(job));
  }

  /** Puts a job where it belongs by its time. @param {Job} job */
  #insert(job) {
    const day = dayKey(job.timestamp);
    const isOlder = (/** @type {Job} */ other) => other.timestamp <= job.timestamp;
    let index = this.#chunks.findIndex(({ jobs }) => jobs.some(isOlder));
    if (index < 0) {
      this.#append(job);
      return;
    }
    let chunk = /** @type {Chunk} */ (this.#chunks[index]);
    const before = this.#chunks[index - 1];
    if (chunk.day !== day && before?.day === day) {
      index -= 1;
      chunk = before;
    } else if (
      chunk.day !== day ||
      (isOlder(/** @type {Job} */ (chunk.jobs[0])) && chunk.jobs.length >= PAGE)
    ) {
      chunk = this.#addChunk(day, index, job);
    }
    const found = chunk.jobs.findIndex(isOlder);
    const at = found < 0 ? chunk.jobs.length : found;
    chunk.jobs.splice(at, 0, job);
    this.#chunkOf.set(job.id, chunk);
    if (chunk.isShown) chunk.list.insertBefore(jobCard(job), chunk.list.children[at] ?? null);
  }

  /** @param {string} day @param {number} index @param {Job} job one of that day */
  #addChunk(day, index, job) {
    const list = h('ol', { class: 'cards', 'aria-label': `Jobs of ${dayName(job.timestamp)}` });
    const chunk = { day, jobs: [], list, isShown: true };
    const [before, after] = [this.#chunks[index - 1], this.#chunks[index]];
    if (before?.day === day) before.list.after(list);
    else if (after?.day === day) after.list.before(list);
    else {
      const section = h('section', { class: 'day' }, h('h2', {}, dayName(job.timestamp)), list);
      this.#place.insertBefore(section, after?.list.parentElement ?? null);
    }
    this.#chunks.splice(index, 0, chunk);
    this.#visible.observe(list);
    return chunk;
  }

  /** @param {Chunk} chunk */
  #drop(chunk) {
    this.#visible.unobserve(chunk.list);
    this.#chunks.splice(this.#chunks.indexOf(chunk), 1);
    const section = chunk.list.parentElement;
    chunk.list.remove();
    if (section && !section.querySelector('ol')) section.remove();
  }

  #trim() {
    while (this.size > KEPT_AT_TOP && this.#chunks.length > 1) {
      const last = /** @type {Chunk} */ (this.#chunks.at(-1));
      if (this.size - last.jobs.length < PAGE) return;
      for (const { id } of last.jobs) this.#chunkOf.delete(id);
      this.#drop(last);
      this.#cursor = this.#chunks.at(-1)?.jobs.at(-1)?.id;
      this.#hasMore = true;
      this.#more.hidden = false;
    }
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #showVisible(entries) {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      const chunk = this.#chunks.find(({ list }) => list === target);
      if (!chunk || chunk.isShown === isIntersecting || chunk.list.contains(document.activeElement)) continue;
      chunk.isShown = isIntersecting;
      if (isIntersecting) {
        chunk.list.replaceChildren(...chunk.jobs.map(jobCard));
        chunk.list.style.removeProperty('min-height');
      } else {
        chunk.list.style.setProperty('min-height', `${boundingClientRect.height}px`);
        chunk.list.replaceChildren();
      }
    }
  }
}
