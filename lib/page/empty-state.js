import { urlOf } from './api.js';
import { copyText } from './copy.js';
import { byId, h } from './dom.js';

/** Says what can be done where there is nothing to see. @param {'nothing yet' | 'nothing found' | undefined} kind */
export function showEmptyState(kind) {
  const place = byId('empty', HTMLElement);
  place.hidden = kind === undefined;
  if (kind === undefined || place.dataset.kind === kind) return;
  place.dataset.kind = kind;
  place.replaceChildren(...(kind === 'nothing found' ? nothingFound() : nothingYet()));
}

function nothingFound() {
  const clear = () => byId('clear-filters', HTMLButtonElement).click();
  return [
    h('h2', {}, 'No job matches'),
    h('p', {}, 'Take a word or a filter away; jobs that were purged are gone.'),
    h('p', {}, h('button', { type: 'button', onclick: clear }, 'Clear the filters')),
  ];
}

function nothingYet() {
  const command = [
    `curl ${urlOf('sdapi/v1/txt2img')}`,
    `-H 'Content-Type: application/json'`,
    `-d '{"prompt": "a quiet bay at dusk", "steps": 20}' -o answer.json`,
  ].join(' \\\n  ');
  const copy = () => copyText(command, 'Command copied');
  return [
    h('h2', {}, 'No jobs yet'),
    h(
      'p',
      {},
      'Point your client at this gateway in place of the backend. Whatever it generates appears here, and stays when its connection breaks. Or try it:',
    ),
    h('pre', { tabindex: '0' }, command),
    h('p', {}, h('button', { type: 'button', onclick: copy }, 'Copy the command')),
  ];
}
