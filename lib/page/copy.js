import { h } from './dom.js';
import { notify } from './notices.js';

/** Copies a text, also where the page was not come to by HTTPS and browsers have no clipboard for it. @param {string} text @param {string} said */
export async function copyText(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!copyBySelection(text)) {
      notify(`This browser does not let the page copy: ${text.slice(0, 200)}`, 'error');
      return;
    }
  }
  notify(said);
}

/** @param {string} text */
function copyBySelection(text) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const dialogs = document.querySelectorAll('dialog[open]');
  const area = h('textarea', { class: 'visually-hidden', 'aria-hidden': 'true' });
  area.value = text;
  (dialogs[dialogs.length - 1] ?? document.body).append(area);
  area.select();
  try {
    return document.execCommand('copy');
  } catch {
    return false;
  } finally {
    area.remove();
    focused?.focus();
  }
}

/** A job's id, which a click copies. @param {string} id */
export function idButton(id) {
  return h(
    'button',
    {
      type: 'button',
      class: 'id',
      title: 'Copy the id',
      'aria-label': `Copy the id ${id}`,
      onclick: () => copyText(id, `${id} copied`),
    },
    id,
  );
}
