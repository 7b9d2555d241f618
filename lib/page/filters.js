import { byId } from './dom.js';

/**
 * What of the jobs is shown. It stands in the page's address, so that it can be shared.
 *
 * @typedef {object} Filters every one `''` where it is not set
 * @property {string} q text in the prompt, in any case
 * @property {string} status
 * @property {string} backend
 * @property {string} ip
 * @property {string} from a day, `2026-11-22`, where the reader is
 * @property {string} to a day, which belongs to it
 */

const NAMES = /** @type {const} */ (['q', 'status', 'backend', 'ip', 'from', 'to']);
const TYPING_MS = 250;

/** @returns {Filters} as the page's address says */
export function filtersOfAddress() {
  const query = new URLSearchParams(location.search);
  const filters = /** @type {Filters} */ ({});
  for (const name of NAMES) filters[name] = query.get(name)?.trim() ?? '';
  return filters;
}

/** @param {Filters} filters */
export const isFiltered = (filters) => NAMES.some((name) => filters[name] !== '');

/** As parameters of the list. @param {Filters} filters */
export function listQuery({ q, status, backend, ip, from, to }) {
  const start = startOfDay(from);
  const end = startOfDay(to, 1);
  return {
    ...{ q, status, backend, ip },
    // Strictly later than this second.
    after: start === undefined ? undefined : Math.max(0, start - 1),
    until: end === undefined ? undefined : end - 1,
  };
}

/** Whether a job of which an event tells belongs to what is shown. @param {import('./api.js').Job} job @param {Filters} filters */
export function matches(job, filters) {
  const { q, status, backend, ip, after, until } = listQuery(filters);
  return (
    (q === '' || job.prompt.toLowerCase().includes(q.toLowerCase())) &&
    (status === '' || job.status.toLowerCase() === status.toLowerCase()) &&
    (backend === '' || job.backend === backend) &&
    (ip === '' || job.ip === ip) &&
    (after === undefined || job.timestamp > after) &&
    (until === undefined || job.timestamp <= until)
  );
}

/** @param {string} day @param {number} [daysLater] @returns {number | undefined} unix seconds */
function startOfDay(day, daysLater = 0) {
  const [, year, month, date] = /^(\d{4})-(\d\d)-(\d\d)$/.exec(day) ?? [];
  if (year === undefined) return undefined;
  return Math.floor(new Date(Number(year), Number(month) - 1, Number(date) + daysLater).getTime() / 1000);
}

/**
 * The fields above the jobs.
 *
 * @param {(filters: Filters) => void} onChange
 * @returns {{ show: (filters: Filters) => void, set: (changes: Partial<Filters>) => void, focus: () => void }}
 */
export function filterForm(onChange) {
  const form = byId('filters', HTMLFormElement);
  const more = byId('more-filters', HTMLButtonElement);
  const clear = byId('clear-filters', HTMLButtonElement);
  const fieldOf = (/** @type {string} */ name) =>
    /** @type {HTMLInputElement | HTMLSelectElement} */ (form.elements.namedItem(name));
  let typing = 0;

  const show = (/** @type {Filters} */ filters) => {
    for (const name of NAMES) if (fieldOf(name).value !== filters[name]) fieldOf(name).value = filters[name];
    clear.hidden = !isFiltered(filters);
    const hidden = NAMES.filter((name) => name !== 'q' && filters[name] !== '').length;
    more.textContent = hidden === 0 ? 'Filters' : `Filters (${hidden})`;
  };
  const set = (/** @type {Partial<Filters>} */ changes) => {
    clearTimeout(typing);
    const filters = { ...filtersOfAddress(), ...changes };
    const query = new URLSearchParams(location.search);
    for (const name of NAMES) {
      if (filters[name] === '') query.delete(name);
      else query.set(name, filters[name]);
    }
    const search = query.toString();
    history.replaceState(history.state, '', location.pathname + (search && `?${search}`) + location.hash);
    show(filters);
    onChange(filters);
  };
  const takeForm = () => {
    const entries = NAMES.map((name) => [name, fieldOf(name).value.trim()]);
    set(/** @type {Filters} */ (Object.fromEntries(entries)));
  };

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    takeForm();
  });
  form.addEventListener('input', ({ target }) => {
    clearTimeout(typing);
    if (target instanceof HTMLInputElement && target.type !== 'date')
      typing = setTimeout(takeForm, TYPING_MS);
    else takeForm();
  });
  clear.addEventListener('click', () => {
    set({ q: '', status: '', backend: '', ip: '', from: '', to: '' });
    fieldOf('q').focus();
  });
  more.addEventListener('click', () => {
    const isOpen = more.getAttribute('aria-expanded') !== 'true';
    more.setAttribute('aria-expanded', String(isOpen));
  });
  return { show, set, focus: () => fieldOf('q').focus() };
}
