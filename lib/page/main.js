import { ActiveJobs } from './active-jobs.js';
import { listJobs, urlOf } from './api.js';
import { copyText } from './copy.js';
import { byId, h } from './dom.js';
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
const empty = byId('empty', HTMLElement);
const banner = byId('banner', HTMLElement);

let filters = filtersOfAddress();
/** How many match in all, as the gateway has said. */
let count = 0;
let isLoaded = false;
/** What events tell while the list is on its way: it may have been written before. @type {(() => void)[] | undefined} */
let held;
/** @type {import('./api.js').Settings | undefined} */
let settings;

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
  onProgress: (progress) => active.progress(progress),
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
    showBanner();
  } catch (error) {
    showBanner(/** @type {Error} */ (error).message);
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
    const [{ jobs, total: matching }] = await Promise.all([
      listJobs({ ...listQuery(filters), limit: 60 }),
      active.load(),
    ]);
    count = matching;
    for (const job of jobs) if (!isSame(job)) put(job, { isCounted: true });
    showBanner();
    showLive('polling');
    showState();
  } catch (error) {
    showLive('lost');
    showBanner(/** @type {Error} */ (error).message);
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

/** @param {Job} job @param {{ isCounted?: boolean }} [options] */
function put(job, { isCounted = false } = {}) {
  const isOver = job.status === 'Completed' || job.status === 'Failed';
  const wasActive = active.get(job.id) !== undefined;
  const isKnown = wasActive || list.get(job.id) !== undefined;
  const isMatching = matches(job, filters);
  if (!isKnown && isMatching && !isCounted) count += 1;
  active.put(job);
  if (isOver && isMatching) list.put(job);
  else if (isOver) list.remove(job.id);
  view.update(job);
  if (isOver && wasActive) {
    const word = job.status === 'Failed' ? failure(job) : statusWord(job.status);
    announce(`${word}: ${job.prompt.slice(0, 100) || job.id}`);
  }
  showState();
}

/** @param {string} id */
function remove(id) {
  if (list.get(id) ?? active.get(id)) count = Math.max(0, count - 1);
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

/** @param {string} [problem] */
function showBanner(problem) {
  const text =
    problem ??
    (settings?.tracking_enabled === false
      ? 'Tracking is off: generations pass through and leave no trace.'
      : undefined);
  banner.hidden = text === undefined;
  if (banner.dataset.text === text) return;
  banner.dataset.text = text ?? '';
  const again = problem
    ? h('button', { type: 'button', onclick: () => load() }, 'Try again')
    : h('button', { type: 'button', onclick: () => settingsView.open() }, 'Settings');
  banner.replaceChildren(h('span', {}, text ?? ''), again);
}

function showState() {
  const { running, size } = active;
  document.title = size === 0 ? 'Job Tracker' : `(${running > 0 ? running : size}) Job Tracker`;
  total.textContent = isLoaded
    ? `${number(count)} ${count === 1 ? 'job' : 'jobs'}${isFiltered(filters) ? ' found' : ''}`
    : '';
  if (banner.hidden || banner.dataset.text === '' || !isLoaded || settings) {
    if (isLoaded && (banner.hidden || banner.textContent?.startsWith('Tracking'))) showBanner();
  }
  showEmpty();
}

function showEmpty() {
  const isEmpty = isLoaded && list.size === 0 && active.shown === 0 && byId('more', HTMLButtonElement).hidden;
  empty.hidden = !isEmpty;
  if (!isEmpty) return;
  const kind = isFiltered(filters) ? 'none' : 'nothing';
  if (empty.dataset.kind === kind) return;
  empty.dataset.kind = kind;
  if (kind === 'none') {
    empty.replaceChildren(
      h('h2', {}, 'No job matches'),
      h('p', {}, 'Take a word or a filter away; jobs that were purged are gone.'),
      h(
        'p',
        {},
        h(
          'button',
          { type: 'button', onclick: () => byId('clear-filters', HTMLButtonElement).click() },
          'Clear the filters',
        ),
      ),
    );
    return;
  }
  const command = `curl ${urlOf('sdapi/v1/txt2img')} \\\n  -H 'Content-Type: application/json' \\\n  -d '{"prompt": "a quiet bay at dusk", "steps": 20}' -o answer.json`;
  empty.replaceChildren(
    h('h2', {}, 'No jobs yet'),
    h(
      'p',
      {},
      'Point your client at this gateway in place of the backend. Whatever it generates appears here, and stays when its connection breaks. Or try it:',
    ),
    h('pre', { tabindex: '0' }, command),
    h(
      'p',
      {},
      h('button', { type: 'button', onclick: () => copyText(command, 'Command copied') }, 'Copy the command'),
    ),
  );
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
