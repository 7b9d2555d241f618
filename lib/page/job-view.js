import { cancelJob, deleteJob, getJob, retryJob, thumbnailUrl } from './api.js';
import { ask } from './ask.js';
import { byId, h } from './dom.js';
import { counted } from './format.js';
import { jobDetails } from './job-details.js';
import { busy, notify } from './notices.js';
import { kindOf, largeOutput } from './picture.js';

/** @typedef {import('./api.js').Job} Job */
/**
 * @typedef {object} JobViewOptions
 * @property {(id: string) => Job | undefined} find what is known of a job already
 * @property {(id: string, step: 1 | -1) => Job | undefined} neighbour
 * @property {(id: string) => void} onDeleted
 * @property {(ip: string) => void} onAddress
 * @property {(id: string) => void} onClosed
 */

/** One job, opened: its pictures large, and all that is known of it. It stands in the page's address behind `#`. */
export class JobView {
  #dialog = byId('job', HTMLDialogElement);
  #stage = byId('stage', HTMLElement);
  #strip = byId('strip', HTMLElement);
  #details = byId('details', HTMLElement);
  #counter = byId('counter', HTMLElement);
  #options;
  /** @type {Job | undefined} */
  #job;
  #n = 0;
  #loading = new AbortController();
  /** Whether going back leads to the page as it was before. */
  #cameFromPage = false;
  /** The job that is being deleted from here: its going is no news. @type {string | undefined} */
  #deleting;

  /** @param {JobViewOptions} options */
  constructor(options) {
    this.#options = options;
    addEventListener('hashchange', ({ oldURL }) => {
      this.#cameFromPage = !this.#dialog.open && new URL(oldURL).hash === '';
      this.showAddress();
    });
    this.#dialog.addEventListener('close', () => this.#onClose());
    this.#dialog.addEventListener('keydown', (event) => this.#onKey(event));
    byId('close-job', HTMLButtonElement).addEventListener('click', () => this.#dialog.close());
    byId('previous', HTMLButtonElement).addEventListener('click', () => this.#step(-1));
    byId('next', HTMLButtonElement).addEventListener('click', () => this.#step(1));
  }

  /** The id of the job that is open. */
  get id() {
    return this.#dialog.open ? this.#job?.id : undefined;
  }

  /** Opens what the page's address names: `#92NSMyQ0`, or `#92NSMyQ0/2` for its second picture. */
  showAddress() {
    const [, id, picture] = /^#([A-Za-z0-9]{8})(?:\/(\d{1,6}))?$/.exec(location.hash) ?? [];
    if (id === undefined) {
      if (this.#dialog.open) this.#dialog.close();
      return;
    }
    if (this.#job?.id === id && this.#dialog.open) {
      this.#show(this.#job, Number(picture ?? 1) - 1);
      return;
    }
    this.#open(id, Number(picture ?? 1) - 1);
  }

  /** What an event tells of the job that is open. @param {Job} job */
  update(job) {
    if (this.id !== job.id || !this.#job) return;
    const hasEnded = job.status !== this.#job.status;
    this.#show({ ...this.#job, ...job }, this.#n);
    if (hasEnded) this.#load(job.id);
  }

  /** @param {import('./api.js').Progress} progress */
  progress({ id, progress }) {
    const text = this.#stage.querySelector('.file');
    if (this.id !== id || progress === undefined || !text || this.#job?.status !== 'Processing') return;
    text.textContent = `It is being made: ${Math.round(progress * 100)} %`;
  }

  /** @param {string} id */
  removed(id) {
    if (this.id !== id || this.#deleting === id) return;
    this.#dialog.close();
    notify(`${id} has been deleted`);
  }

  /** @param {string} id @param {number} n */
  #open(id, n) {
    const known = this.#options.find(id);
    this.#n = n;
    this.#job = known;
    if (!this.#dialog.open) this.#dialog.showModal();
    if (known) this.#show(known, n);
    else {
      this.#stage.replaceChildren();
      this.#strip.replaceChildren();
      this.#details.replaceChildren(h('p', { class: 'hint' }, 'Looking for the job…'));
      this.#counter.textContent = '';
    }
    this.#load(id);
  }

  /** @param {string} id */
  async #load(id) {
    this.#loading.abort();
    this.#loading = new AbortController();
    const { signal } = this.#loading;
    try {
      const job = await getJob(id, signal);
      if (!signal.aborted) this.#show(job, this.#n);
    } catch (error) {
      if (signal.aborted) return;
      const { status, message } = /** @type {import('./api.js').ApiError} */ (error);
      if (this.#job?.id === id && status !== 404) {
        notify(message, 'error');
        return;
      }
      const text =
        status === 404
          ? `There is no job ${id}: it may have been deleted or purged, or belong to somebody else.`
          : message;
      this.#stage.replaceChildren(h('p', { class: 'file' }, text));
      this.#details.replaceChildren();
    }
  }

  /** @param {Job} job @param {number} n */
  #show(job, n) {
    const before = this.#job;
    const count = job.output_paths.length;
    const isSame =
      before?.id === job.id && this.#n === n && this.#stage.dataset.shown === `${job.id}/${n}/${count}`;
    this.#job = job;
    this.#n = Math.max(0, Math.min(n, count - 1));
    // What plays, or is being looked at, is left alone.
    if (!isSame) {
      this.#stage.replaceChildren(count > 0 ? largeOutput(job, this.#n) : nothingYet(job));
      this.#stage.dataset.shown = `${job.id}/${this.#n}/${count}`;
      this.#stage.dataset.kind = count > 0 ? kindOf(job, this.#n) : 'none';
      this.#showStrip(job);
    }
    this.#counter.textContent = count > 1 ? `${this.#n + 1} of ${count}` : '';
    const focused = this.#details.contains(document.activeElement) && document.activeElement?.textContent;
    const isOpen = this.#details.querySelector('details')?.open && before?.id === job.id;
    const scrolled = before?.id === job.id ? this.#details.scrollTop : 0;
    this.#details.replaceChildren(...jobDetails(job, this.#n, this.#handlers));
    const more = this.#details.querySelector('details');
    if (more && isOpen) more.open = true;
    this.#details.scrollTop = scrolled;
    if (focused) {
      const again = [...this.#details.querySelectorAll('button, a, summary')].find(
        (one) => one.textContent === focused,
      );
      if (again instanceof HTMLElement) again.focus();
    }
    document.body.dataset.open = job.id;
  }

  /** @param {Job} job */
  #showStrip(job) {
    const count = job.output_paths.length;
    this.#strip.hidden = count < 2;
    if (count < 2) {
      this.#strip.replaceChildren();
      return;
    }
    const links = job.output_paths.map((_path, n) => {
      const picture = h('img', { src: thumbnailUrl(job.id, n), alt: '', loading: 'lazy' });
      picture.addEventListener('error', () => picture.remove(), { once: true });
      const properties = {
        href: `#${job.id}/${n + 1}`,
        'aria-label': `Show ${n + 1} of ${count}`,
        'aria-current': n === this.#n && 'true',
        onclick: (/** @type {Event} */ event) => {
          event.preventDefault();
          this.#goTo(job, n);
        },
      };
      return h('a', properties, kindOf(job, n) === 'image' ? picture : kindOf(job, n));
    });
    this.#strip.replaceChildren(...links);
    this.#strip.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  /** To the next picture, or the next job's first. @param {1 | -1} step */
  #step(step) {
    const job = this.#job;
    if (!job) return;
    const n = this.#n + step;
    if (n >= 0 && n < job.output_paths.length) {
      this.#goTo(job, n);
      return;
    }
    const beside = this.#options.neighbour(job.id, step);
    if (beside) this.#goTo(beside, step < 0 ? beside.output_paths.length - 1 : 0);
    else notify(step < 0 ? 'This is the newest' : 'This is the oldest');
  }

  /** @param {Job} job @param {number} n */
  #goTo(job, n) {
    history.replaceState(
      history.state,
      '',
      `${location.pathname}${location.search}#${job.id}${n > 0 ? `/${n + 1}` : ''}`,
    );
    if (job.id === this.#job?.id) this.#show(job, n);
    else this.#open(job.id, n);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const { key, target, altKey, ctrlKey, metaKey, shiftKey } = event;
    if (altKey || ctrlKey || metaKey || shiftKey) return;
    // A player has uses for these keys by itself.
    if (target instanceof HTMLMediaElement || target instanceof HTMLInputElement) return;
    const step = key === 'ArrowRight' ? 1 : key === 'ArrowLeft' ? -1 : undefined;
    if (step === undefined) return;
    event.preventDefault();
    this.#step(step);
  }

  #onClose() {
    const id = this.#job?.id;
    this.#loading.abort();
    this.#job = undefined;
    // A video that goes on unseen is still heard.
    this.#stage.replaceChildren();
    delete this.#stage.dataset.shown;
    delete document.body.dataset.open;
    if (location.hash !== '') {
      if (this.#cameFromPage) history.back();
      else history.replaceState(history.state, '', location.pathname + location.search);
    }
    this.#cameFromPage = false;
    if (id !== undefined) this.#options.onClosed(id);
  }

  /** @type {import('./job-details.js').DetailHandlers} */
  #handlers = {
    onCancel: ({ currentTarget }) =>
      busy(/** @type {HTMLButtonElement} */ (currentTarget), async () => {
        const { job, isEnding } = await cancelJob(/** @type {Job} */ (this.#job).id);
        this.update(job);
        notify(isEnding ? 'It is being cancelled' : 'Cancelled');
      }),
    onRetry: ({ currentTarget }) =>
      busy(/** @type {HTMLButtonElement} */ (currentTarget), async () => {
        const job = await retryJob(/** @type {Job} */ (this.#job).id);
        notify(`Runs again as ${job.id}`);
        this.#goTo(job, 0);
      }),
    onDelete: ({ currentTarget }) =>
      busy(/** @type {HTMLButtonElement} */ (currentTarget), async () => {
        const job = /** @type {Job} */ (this.#job);
        const count = job.output_paths.length;
        const yes = await ask({
          title: 'Delete this job?',
          text: `${count === 0 ? 'Its record goes' : `Its record and ${counted(count, 'file')} go`} for good. Nobody can bring that back.`,
          yes: 'Delete',
        });
        if (!yes) return;
        const beside = this.#options.neighbour(job.id, 1) ?? this.#options.neighbour(job.id, -1);
        this.#deleting = job.id;
        await deleteJob(job.id).finally(() => {
          this.#deleting = undefined;
        });
        this.#options.onDeleted(job.id);
        if (this.id === job.id) {
          if (beside) this.#goTo(beside, 0);
          else this.#dialog.close();
        }
        notify(`${job.id} deleted`);
      }),
    onAddress: (ip) => {
      // Going back would take the filter away again.
      this.#cameFromPage = false;
      this.#dialog.close();
      this.#options.onAddress(ip);
    },
    onJob: (id) => {
      history.replaceState(history.state, '', `${location.pathname}${location.search}#${id}`);
      this.#open(id, 0);
    },
  };
}

/** @param {Job} job */
function nothingYet({ status }) {
  const text = { Pending: 'It waits for its turn.', Processing: 'It is being made.' }[
    /** @type {string} */ (status)
  ];
  return h('p', { class: 'file' }, text ?? 'There is no picture.');
}
