import { h } from './dom.js';

/**
 * Asks before something is done that cannot be undone. What changes nothing has the focus.
 *
 * @param {{ title: string, text: string, yes: string, no?: string }} question
 * @returns {Promise<boolean>}
 */
export function ask({ title, text, yes, no = 'Keep' }) {
  const { promise, resolve } = withResolver();
  const refuse = h('button', { type: 'button', onclick: () => dialog.close() }, no);
  const dialog = h(
    'dialog',
    {
      class: 'question',
      'aria-labelledby': 'question-title',
      'aria-describedby': 'question-text',
      onclose: () => {
        dialog.remove();
        resolve(dialog.returnValue === 'yes');
      },
      onclick: (/** @type {MouseEvent} */ event) => event.target === dialog && dialog.close(),
    },
    h(
      'div',
      { class: 'question-body' },
      h('h2', { id: 'question-title' }, title),
      h('p', { id: 'question-text' }, text),
      h(
        'p',
        { class: 'buttons' },
        refuse,
        h('button', { type: 'button', class: 'danger', onclick: () => dialog.close('yes') }, yes),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  refuse.focus();
  return promise;
}

function withResolver() {
  /** @type {(answer: boolean) => void} */
  let resolve = () => {};
  /** @type {Promise<boolean>} */
  const promise = new Promise((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
