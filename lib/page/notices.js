import { byId, h } from './dom.js';

const SHOWN_MS = 6_000;

/**
 * Says something for a moment, at the edge of the page and to screen readers.
 *
 * @param {string} text
 * @param {'info' | 'error'} [kind]
 */
export function notify(text, kind = 'info') {
  // What a modal dialog covers can be neither seen nor heard.
  const dialogs = document.querySelectorAll('dialog[open]');
  const place = dialogs[dialogs.length - 1]?.querySelector('.notices') ?? byId('notices', HTMLElement);
  const notice = h('p', { class: `notice ${kind}` }, text);
  place.append(notice);
  while (place.children.length > 3) place.firstChild?.remove();
  setTimeout(() => notice.remove(), kind === 'error' ? SHOWN_MS * 2 : SHOWN_MS);
}

let announcing = 0;

/** To screen readers only; what comes in a rush is told once. @param {string} text */
export function announce(text) {
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    byId('announcements', HTMLElement).textContent = text;
  }, 300);
}

/** Does what a button is for, once at a time, and says what went wrong. @param {HTMLButtonElement} button @param {() => Promise<void>} action */
export async function busy(button, action) {
  if (button.getAttribute('aria-busy') === 'true') return;
  button.setAttribute('aria-busy', 'true');
  try {
    await action();
  } catch (error) {
    notify(/** @type {Error} */ (error).message, 'error');
  } finally {
    button.removeAttribute('aria-busy');
  }
}
