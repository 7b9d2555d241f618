import { adviceFor } from './advice.js';
import { imageUrl, isFinished, zipUrl } from './api.js';
import { copyText, idButton } from './copy.js';
import { curlOf, needsPictures } from './curl.js';
import { h } from './dom.js';
import { textOf } from './exact-json.js';
import { backendTitle, bytes, duration, fullTime, statusWord, took } from './format.js';
import { failure } from './job-card.js';
import { factsOf, workflowOf } from './job-facts.js';
import { fileName } from './picture.js';

/** @typedef {import('./api.js').Job} Job */
/** @typedef {(event: Event) => void} Handler */
/** @typedef {{ onCancel: Handler, onRetry: Handler, onDelete: Handler, onAddress: (ip: string) => void, onJob: (id: string) => void }} DetailHandlers */

/** A value longer than that is cut where it is shown; it is whole in the copied command. */
const SHOWN_VALUE = 2_000;

/** All that is known of a job, beside its pictures. @param {Job} job @param {number} n the picture that is shown @param {DetailHandlers} handlers @returns {Node[]} */
export function jobDetails(job, n, handlers) {
  const { facts, prompt, negativePrompt, seed, all } = factsOf(job, n);
  const isFailed = job.status === 'Failed';
  return /** @type {Node[]} */ (
    [
      h(
        'p',
        { class: 'headline', 'data-status': job.status },
        h('span', { class: 'status' }, isFailed ? failure(job) : statusWord(job.status)),
        h('time', { datetime: new Date(job.timestamp * 1000).toISOString() }, fullTime(job.timestamp)),
      ),
      isFailed && errorBox(job),
      job.disturbed_by && h('p', { class: 'hint' }, disturbance(job.disturbed_by)),
      actions(job, n, seed, handlers),
      textBlock('Prompt', prompt, 'No prompt'),
      negativePrompt !== '' && textBlock('Negative prompt', negativePrompt),
      facts.length > 0 && table('Parameters', facts),
      table('Job', jobFacts(job, handlers)),
      all.length > 1 &&
        h(
          'details',
          {},
          h('summary', {}, workflowOf(job) ? `All ${all.length} nodes` : `All ${all.length} parameters`),
          table('All parameters', all, true),
        ),
    ].filter(Boolean)
  );
}

/** @param {Job} job */
function errorBox(job) {
  const { title, advice } = adviceFor(job);
  return h(
    'div',
    { class: 'error-box', role: 'note' },
    h('strong', {}, title),
    job.error?.message && h('p', { class: 'message' }, job.error.message.slice(0, SHOWN_VALUE)),
    h('p', {}, advice),
  );
}

/** @param {string} by */
const disturbance = (by) =>
  by === 'skip'
    ? 'A skip passed through while this ran: there may be fewer pictures than asked for, or unfinished ones.'
    : 'An interrupt passed through while this ran: there may be fewer pictures than asked for, or unfinished ones.';

/** @param {Job} job @param {number} n @param {unknown} seed @param {DetailHandlers} handlers */
function actions(job, n, seed, { onCancel, onRetry, onDelete }) {
  const count = job.output_paths.length;
  const isOver = isFinished(job);
  const button = (/** @type {string} */ text, /** @type {Handler} */ onclick, className = '') =>
    h('button', { type: 'button', class: className, onclick }, text);
  return h(
    'p',
    { class: 'buttons' },
    count > 0 &&
      h('a', { class: 'button primary', href: imageUrl(job.id, n), download: fileName(job, n) }, 'Download'),
    count > 1 &&
      h('a', { class: 'button', href: zipUrl(job.id), download: `${job.id}.zip` }, `All ${count} (zip)`),
    job.status === 'Failed' && button('Retry', onRetry, count > 0 ? '' : 'primary'),
    !isOver && button('Cancel', onCancel),
    button('Copy as curl', () =>
      copyText(
        curlOf(job, seed),
        needsPictures(job) ? 'Copied, without the pictures that went in: add init_images' : 'Command copied',
      ),
    ),
    isOver && button('Delete', onDelete, 'quiet-danger'),
  );
}

/** @param {string} title @param {string} text @param {string} [instead] */
function textBlock(title, text, instead = '') {
  const isEmpty = text.trim() === '';
  return h(
    'section',
    { class: 'text-block' },
    h(
      'div',
      { class: 'block-head' },
      h('h3', {}, title),
      !isEmpty &&
        h(
          'button',
          {
            type: 'button',
            class: 'small',
            'aria-label': `Copy the ${title.toLowerCase()}`,
            onclick: () => copyText(text, `${title} copied`),
          },
          'Copy',
        ),
    ),
    isEmpty ? h('p', { class: 'none' }, instead) : h('p', { class: 'text' }, text),
  );
}

/** @param {string} title @param {[string, unknown][]} facts @param {boolean} [isTitleHidden] */
function table(title, facts, isTitleHidden = false) {
  return h(
    'table',
    {},
    h('caption', isTitleHidden ? { class: 'visually-hidden' } : {}, title),
    h(
      'tbody',
      {},
      ...facts.map(([name, value]) =>
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, name),
          h('td', {}, value instanceof Node ? value : textOf(value).slice(0, SHOWN_VALUE)),
        ),
      ),
    ),
  );
}

/** @param {Job} job @param {DetailHandlers} handlers @returns {[string, unknown][]} */
function jobFacts(job, { onAddress, onJob }) {
  const time = took(job);
  const link = (/** @type {string} */ text, /** @type {string} */ title, /** @type {Handler} */ onclick) =>
    h('button', { type: 'button', class: 'link', title, onclick }, text);
  /** @type {[string, unknown][]} */
  const facts = [
    ['Id', idButton(job.id)],
    ['Address', link(job.ip, 'Show all jobs of this address', () => onAddress(job.ip))],
    ['User', job.user],
    ['Backend', backendTitle(job.backend)],
    ['Route', job.path],
    ['Waited', waitOf(job)],
    ['Took', time === undefined ? undefined : duration(time)],
    ['Ended', job.finished_at === undefined ? undefined : fullTime(job.finished_at)],
    ['Size', job.bytes === undefined ? undefined : bytes(job.bytes)],
    [
      'Another try of',
      job.retry_of && link(job.retry_of, 'Show that job', () => onJob(/** @type {string} */ (job.retry_of))),
    ],
  ];
  return facts.filter(([, value]) => value !== undefined && value !== '');
}

/** Less than a second is no waiting; the record has the time of its making in whole seconds. @param {Job} job */
function waitOf({ timestamp, started_at: start }) {
  return start === undefined || start - timestamp < 2 ? undefined : duration(start - timestamp);
}
