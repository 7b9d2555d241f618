import { idButton } from './copy.js';
import { h } from './dom.js';
import { backendTitle, duration, fullTime, statusWord, timeOfDay, took } from './format.js';
import { thumbnail } from './picture.js';

/** The beginning of it; the whole stands in the job. */
const SHOWN_PROMPT = 300;

/** One job in the list. @param {import('./api.js').Job} job */
export function jobCard(job) {
  const time = took(job);
  const count = job.output_paths.length;
  return h(
    'li',
    { class: 'card', 'data-id': job.id, 'data-status': job.status },
    h(
      'a',
      { class: 'open', href: `#${job.id}` },
      h(
        'span',
        { class: 'picture' },
        thumbnail(job),
        count > 1 &&
          h('span', { class: 'count' }, String(count), h('span', { class: 'visually-hidden' }, ' files')),
      ),
      promptText(job.prompt),
    ),
    h(
      'div',
      { class: 'facts' },
      h('span', { class: 'status' }, job.status === 'Failed' ? failure(job) : statusWord(job.status)),
      h(
        'time',
        { datetime: new Date(job.timestamp * 1000).toISOString(), title: fullTime(job.timestamp) },
        timeOfDay(job.timestamp),
      ),
      idButton(job.id),
      h('span', { class: 'took', title: 'How long it took' }, time === undefined ? '' : duration(time)),
      h('span', { class: 'ip', title: job.user === undefined ? 'Address' : 'User and address' }, whoOf(job)),
      h('span', { class: 'backend' }, backendTitle(job.backend)),
    ),
  );
}

/** @param {string} prompt */
export function promptText(prompt) {
  if (prompt.trim() === '') return h('span', { class: 'prompt none' }, 'No prompt');
  return h('span', { class: 'prompt', title: prompt.slice(0, 1_000) }, prompt.slice(0, SHOWN_PROMPT));
}

/** @param {import('./api.js').Job} job */
const whoOf = ({ user, ip }) => (user === undefined ? ip : `${user} · ${ip}`);

const FAILURES = /** @type {Record<string, string>} */ ({
  cancelled: 'Cancelled',
  interrupted: 'Interrupted',
  timeout: 'Timed out',
  unreachable: 'No backend',
  not_stored: 'Not stored',
  empty: 'No picture',
});

/** Why a job failed, in a word or two. @param {import('./api.js').Job} job */
export const failure = ({ error }) => FAILURES[error?.code ?? ''] ?? 'Failed';
