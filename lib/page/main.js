import { ActiveJobs } from './active-jobs.js';
import { isFinished, listJobs } from './api.js';
import { byId, h } from './dom.js';
import { showEmptyState } from './empty-state.js';
import { filterForm, filtersOfAddress, isFiltered, listQuery, matches } from './filters.js';
import { number, statusWord } from './format.js';
import { failure } from './job-card.js';
import { JobList } from './job-list.js';
import { JobView } from './job-view.js';
import { Live } from './live.js';
import { announce, notify } from './notices.js';
import { SettingsView } from './settings-view.js';

/** @typedef {import('./api.js').Job} Job */

const sign = byId('live', HTMLElement);
const total = byId('total', HTMLElement);
const banner = byId('banner', HTMLElement);

let filters = filtersOfAddress();
/** How many match in all, as the gateway has said. */
let count = 0;
let isLoaded = false;
/** What events tell while the list is on its way: it may have been written before. @type {(() => void)[] | undefined} */
let held;
/** @type {import('./api.js').Settings | undefined} */
let settings;
/** Why what is shown could not be loaded. @type {string | undefined} */
let problem;

const list = new JobList();
const active = new ActiveJobs(showState);
const form = filterForm((changed) => {
  filters = changed;
  load();
});
const view = new JobView({
  find: (id) => list.get(id) ?? active.get(id),
  neighbour: (id, step) => list.neighbour(id, step),
  onDeleted: remove,
  onAddress: (ip) => form.set({ ip }),
  onClosed: (id) => {
    // The card may be another one than that by which it was opened.
    if (!list.focus(id)) byId('main', HTMLElement).focus({ preventScroll: true });
  },
});
const settingsView = new SettingsView({
  onChange: (changed) => {
    settings = changed;
    showState();
  },
  onPurged: () => load(),
});
const live = new Live({
  onJob: (job) => whenLoaded(() => put(job)),
  onRemoved: (id) =>
    whenLoaded(() => {
      remove(id);
      view.removed(id);
    }),
  onProgress: (progress) => {
    active.progress(progress);
    view.progress(progress);
  },
  onReset: () => load(),
  onPoll: poll,
  onState: showLive,
});

/** Loads all that is shown anew. */
async function load() {
  held ??= [];
  active.filter(filters);
  try {
    const [matching] = await Promise.all([list.load(filters), active.load()]);
    // Something newer has begun.
    if (matching === undefined) return;
    count = matching;
    isLoaded = true;
    problem = undefined;
  } catch (error) {
    problem = /** @type {Error} */ (error).message;
    showBanner();
  }
  const events = held ?? [];
  held = undefined;
  for (const apply of events) apply();
  showState();
}

/** What is new since, where no events tell. */
async function poll() {
  if (!isLoaded) {
    await load();
    return;
  }
  try {
    const [{ jobs, total: matching }, gone] = await Promise.all([
      listJobs({ ...listQuery(filters), limit: 60 }),
      active.load(),
    ]);
    problem = undefined;
    for (const job of jobs) if (!isSame(job)) put(job, gone.includes(job.id));
    count = matching;
    showLive('polling');
    showState();
  } catch (error) {
    showLive('lost');
    problem = /** @type {Error} */ (error).message;
    showBanner();
  }
}

/** @param {Job} job */
function isSame(job) {
  const known = list.get(job.id);
  return known !== undefined && known.status === job.status && known.finished_at === job.finished_at;
}

/** @param {() => void} apply */
function whenLoaded(apply) {
  if (held) held.push(apply);
  else apply();
}

/** @param {Job} job @param {boolean} [wasActive] whether it was among those that run and wait */
function put(job, wasActive = active.get(job.id) !== undefined) {
  const before = list.get(job.id) ?? active.get(job.id);
  const isMatching = matches(job, filters);
  count += Number(isMatching) - Number(before !== undefined && matches(before, filters));
  active.put(job);
  if (isFinished(job) && isMatching) list.put(job);
  else list.remove(job.id);
  view.update(job);
  if (isFinished(job) && wasActive) {
    const word = job.status === 'Failed' ? failure(job) : statusWord(job.status);
    announce(`${word}: ${job.prompt.slice(0, 100) || job.id}`);
  }
  showState();
}

/** @param {string} id */
function remove(id) {
  const job = list.get(id) ?? active.get(id);
  if (job && matches(job, filters)) count -= 1;
  list.remove(id);
  active.remove(id);
  showState();
}

const LIVE_TEXTS = {
  connecting: ['Connecting', 'Looking for the gateway'],
  live: ['Live', 'This page shows what happens as it happens'],
  lost: ['Connection lost', 'The gateway does not answer; the page tries again by itself'],
  polling: ['Every 3 s', 'Events do not come through; the page looks every three seconds instead'],
};

/** @param {import('./live.js').LiveState} state */
function showLive(state) {
  const [text, title] = /** @type {[string, string]} */ (LIVE_TEXTS[state]);
  if (sign.dataset.state === state) return;
  sign.dataset.state = state;
  sign.textContent = text;
  sign.title = title;
}

/** What stands in the way, or should be known. */
function showBanner() {
  const isOff = settings?.tracking_enabled === false;
  const text = problem ?? (isOff ? 'Tracking is off: generations pass through and leave no trace.' : '');
  banner.hidden = text === '';
  if (banner.dataset.text === text) return;
  banner.dataset.text = text;
  const [word, onclick] =
    problem === undefined ? ['Settings', () => settingsView.open()] : ['Try again', () => load()];
  banner.replaceChildren(h('span', {}, text), h('button', { type: 'button', onclick }, word));
}

function showState() {
  const { running, size } = active;
  document.title = size === 0 ? 'Job Tracker' : `(${running > 0 ? running : size}) Job Tracker`;
  total.textContent = isLoaded
    ? `${number(count)} ${count === 1 ? 'job' : 'jobs'}${isFiltered(filters) ? ' found' : ''}`
    : '';
  showBanner();
  showEmpty();
}

function showEmpty() {
  const isEmpty = isLoaded && list.size === 0 && active.shown === 0 && byId('more', HTMLButtonElement).hidden;
  showEmptyState(isEmpty ? (isFiltered(filters) ? 'nothing found' : 'nothing yet') : undefined);
}

addEventListener('keydown', (event) => {
  const { target, key, ctrlKey, metaKey, altKey } = event;
  const isTyping =
    target instanceof HTMLInputElement ||
    target instanceof HTMLSelectElement ||
    target instanceof HTMLTextAreaElement;
  if (key !== '/' || ctrlKey || metaKey || altKey || isTyping || document.querySelector('dialog[open]'))
    return;
  event.preventDefault();
  form.focus();
});
addEventListener('popstate', () => {
  const before = JSON.stringify(filters);
  filters = filtersOfAddress();
  form.show(filters);
  if (JSON.stringify(filters) !== before) load();
});

form.show(filters);
showLive('connecting');
live.start();
await load();
view.showAddress();
settingsView.load().catch((error) => notify(error.message, 'error'));
