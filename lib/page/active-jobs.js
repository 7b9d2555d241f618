import { cancelJob, isFinished, listJobs } from './api.js';
import { idButton } from './copy.js';
import { byId, h } from './dom.js';
import { matches } from './filters.js';
import { backendTitle, counted, duration, took } from './format.js';
import { promptText } from './job-card.js';
import { busy, notify } from './notices.js';

/** @typedef {import('./api.js').Job} Job */
/** @typedef {{ job: Job, progress: import('./api.js').Progress | undefined, progressAt: number, row: ReturnType<typeof makeRow> }} Active */

/** So many that wait are shown until somebody wants to see all of them. */
const WAITING_SHOWN = 5;
const MOST = 1_000;

/** The jobs that run and wait, on top of the page; they move by themselves. */
export class ActiveJobs {
  #section = byId('active', HTMLElement);
  #title = byId('active-title', HTMLElement);
  #list = byId('active-jobs', HTMLElement);
  #all = byId('all-waiting', HTMLButtonElement);
  #showsAll = false;
  /** @type {Map<string, Active>} */
  #jobs = new Map();
  #filters = /** @type {import('./filters.js').Filters | undefined} */ (undefined);
  #ticking = 0;
  #onChange;

  /** @param {() => void} onChange called when there are more or fewer */
  constructor(onChange) {
    this.#onChange = onChange;
    this.#all.addEventListener('click', () => {
      this.#showsAll = !this.#showsAll;
      this.#arrange();
    });
  }

  get running() {
    return [...this.#jobs.values()].filter(({ job }) => job.status === 'Processing').length;
  }

  get size() {
    return this.#jobs.size;
  }

  /** How many of them are shown with these filters. */
  get shown() {
    return this.#matching().length;
  }

  /** @param {string} id */
  get(id) {
    return this.#jobs.get(id)?.job;
  }

  /** Learns anew what runs and waits. Resolves to the ids of those that do no longer. @param {AbortSignal} [signal] */
  async load(signal) {
    const lists = await Promise.all(
      ['Processing', 'Pending'].map((status) => listJobs({ status, limit: MOST }, signal)),
    );
    const jobs = lists.flatMap((list) => list.jobs);
    const gone = [...this.#jobs.keys()].filter((id) => !jobs.some((job) => job.id === id));
    for (const id of gone) this.#jobs.delete(id);
    for (const job of jobs) this.#hold(job);
    this.#arrange();
    return gone;
  }

  /** @param {import('./filters.js').Filters} filters */
  filter(filters) {
    this.#filters = filters;
    this.#arrange();
  }

  /** Takes what is told of a job. @param {Job} job */
  put(job) {
    if (isFinished(job)) {
      this.remove(job.id);
      return;
    }
    this.#hold(job);
    this.#arrange();
  }

  /** @param {string} id */
  remove(id) {
    if (this.#jobs.delete(id)) this.#arrange();
  }

  /** @param {import('./api.js').Progress} progress */
  progress(progress) {
    const active = this.#jobs.get(progress.id);
    if (!active) return;
    active.progress = progress;
    active.progressAt = Date.now();
    this.#update(active);
  }

  /** @param {Job} job */
  #hold(job) {
    const known = this.#jobs.get(job.id);
    if (known) {
      known.job = job;
    } else {
      this.#jobs.set(job.id, { job, progress: undefined, progressAt: 0, row: makeRow(job) });
    }
  }

  #matching() {
    const filters = this.#filters;
    const all = [...this.#jobs.values()];
    return filters ? all.filter(({ job }) => matches(job, filters)) : all;
  }

  #arrange() {
    const byTurn = (/** @type {Active} */ a, /** @type {Active} */ b) =>
      Number(a.job.status === 'Pending') - Number(b.job.status === 'Pending') ||
      (a.job.queue_position ?? 0) - (b.job.queue_position ?? 0) ||
      a.job.timestamp - b.job.timestamp;
    const shown = this.#matching().sort(byTurn);
    const waiting = shown.filter(({ job }) => job.status === 'Pending').length;
    const running = shown.length - waiting;
    const rows = this.#showsAll ? shown : shown.slice(0, running + WAITING_SHOWN);
    placeRows(
      this.#list,
      rows.map(({ row }) => row.element),
    );
    for (const active of rows) this.#update(active);
    this.#section.hidden = shown.length === 0;
    this.#title.textContent = [running > 0 && `${running} running`, waiting > 0 && `${waiting} waiting`]
      .filter(Boolean)
      .join(', ');
    this.#all.hidden = waiting <= WAITING_SHOWN;
    this.#all.textContent = this.#showsAll ? 'Show fewer' : `Show all ${counted(waiting, 'waiting job')}`;
    this.#all.setAttribute('aria-expanded', String(this.#showsAll));
    this.#tick();
    this.#onChange();
  }

  /** Times go on while something runs. */
  #tick() {
    clearInterval(this.#ticking);
    if (this.running === 0) return;
    this.#ticking = setInterval(() => {
      for (const active of this.#jobs.values()) if (active.job.status === 'Processing') this.#update(active);
    }, 1_000);
  }

  /** @param {Active} active */
  #update({ job, progress, progressAt, row }) {
    const isRunning = job.status === 'Processing';
    row.element.dataset.status = job.status;
    const done = isRunning ? (progress?.progress ?? job.progress) : undefined;
    if (done === undefined) row.bar.removeAttribute('value');
    else row.bar.value = Math.min(1, Math.max(0, done));
    row.bar.hidden = !isRunning;
    row.state.textContent = isRunning ? runningText(job, progress, done, progressAt) : waitingText(job);
    const elapsed = took(job, Date.now() / 1000);
    row.elapsed.textContent = isRunning && elapsed !== undefined ? `${wholeSeconds(elapsed)} so far` : '';
  }
}

/** @param {Job} job @param {import('./api.js').Progress | undefined} progress @param {number | undefined} done @param {number} progressAt */
function runningText(job, progress, done, progressAt) {
  const steps = progress?.steps ?? Number(job.request?.steps ?? 0);
  const parts = [];
  if (progress?.step !== undefined && steps > 0) parts.push(`Step ${progress.step} of ${steps}`);
  if (done !== undefined) parts.push(`${Math.round(done * 100)} %`);
  if (progress?.eta_seconds !== undefined) {
    const left = progress.eta_seconds - (Date.now() - progressAt) / 1000;
    parts.push(left < 1 ? 'almost done' : `${wholeSeconds(left)} left`);
  }
  if (progress?.text && parts.length < 2) parts.push(progress.text);
  return parts.length === 0 ? 'Running' : parts.join(' · ');
}

/** @param {number} seconds */
const wholeSeconds = (seconds) => duration(Math.floor(seconds)).replace('.0 s', ' s');

/** @param {Job} job */
function waitingText({ queue_position: place }) {
  if (place === undefined) return 'Waiting';
  return place === 1 ? 'Next in the queue' : `Number ${place} in the queue`;
}

/** @param {Job} job */
function makeRow(job) {
  const label = job.prompt.slice(0, 80) || job.id;
  const bar = h('progress', { max: '1', 'aria-label': `Progress of ${label}` });
  const state = h('span', { class: 'state' });
  const elapsed = h('span', { class: 'elapsed' });
  const cancel = h(
    'button',
    {
      type: 'button',
      class: 'cancel',
      'aria-label': `Cancel ${label}`,
      onclick: () =>
        busy(cancel, async () => {
          const { isEnding } = await cancelJob(job.id);
          notify(isEnding ? `${job.id} is being cancelled` : `${job.id} cancelled`);
        }),
    },
    'Cancel',
  );
  const element = h(
    'li',
    { class: 'active-job', 'data-id': job.id },
    h('a', { class: 'open', href: `#${job.id}` }, promptText(job.prompt)),
    bar,
    h(
      'p',
      { class: 'facts' },
      state,
      elapsed,
      idButton(job.id),
      h('span', {}, backendTitle(job.backend)),
      h('span', { class: 'ip' }, job.ip),
    ),
    cancel,
  );
  return { element, bar, state, elapsed };
}

/** Puts rows in this order and moves none that is in its place: what has the focus keeps it. @param {HTMLElement} list @param {HTMLElement[]} rows */
function placeRows(list, rows) {
  for (const child of [...list.children])
    if (!rows.includes(/** @type {HTMLElement} */ (child))) child.remove();
  rows.forEach((row, index) => {
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
  });
}
