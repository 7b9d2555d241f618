import * as api from './api.js';
import { ask } from './ask.js';
import { byId } from './dom.js';
import { bytes, counted, number } from './format.js';
import { showHealth } from './health-view.js';
import { busy, notify } from './notices.js';

/** Everything that has ended: the shortest time that the gateway knows. */
const ALL_ENDED = '1s';

/** The switches: tracking, retention, purging; and how the gateway is. */
export class SettingsView {
  #dialog = byId('settings', HTMLDialogElement);
  #tracking = byId('tracking', HTMLInputElement);
  #keep = byId('keep', HTMLFieldSetElement);
  #otherDays = byId('other-days', HTMLInputElement);
  #purge = byId('purge', HTMLFieldSetElement);
  #purgeAge = byId('purge-age', HTMLSelectElement);
  #purged = byId('purged', HTMLElement);
  #problem = byId('settings-problem', HTMLElement);
  /** @type {api.Settings | undefined} */
  #settings;
  /** Why the switches cannot be used. @type {string | undefined} */
  #refusal;
  #onChange;

  /** @param {{ onChange: (settings: api.Settings) => void, onPurged: () => void }} options */
  constructor({ onChange, onPurged }) {
    this.#onChange = onChange;
    byId('open-settings', HTMLButtonElement).addEventListener('click', () => this.open());
    byId('close-settings', HTMLButtonElement).addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('click', ({ target }) => target === this.#dialog && this.#dialog.close());
    this.#tracking.addEventListener('change', () =>
      this.#change({ tracking_enabled: this.#tracking.checked }),
    );
    this.#keep.addEventListener('change', ({ target }) =>
      this.#onKeep(/** @type {HTMLInputElement} */ (target)),
    );
    const purge = byId('purge-now', HTMLButtonElement);
    purge.addEventListener('click', () =>
      busy(purge, async () => {
        if (await this.#purgeNow()) onPurged();
      }),
    );
  }

  open() {
    this.#purged.textContent = '';
    if (!this.#dialog.open) this.#dialog.showModal();
    this.load().catch((error) => notify(error.message, 'error'));
    this.#judge();
    this.#look();
  }

  /** @returns {Promise<api.Settings>} */
  async load() {
    return this.#show(await api.settings());
  }

  async #look() {
    try {
      showHealth(await api.health());
    } catch (error) {
      showHealth({ ok: false, store: { ok: false, error: /** @type {Error} */ (error).message } });
    }
  }

  /** Finds out whether this visitor may change anything, and how much is kept. */
  async #judge() {
    const summary = byId('kept', HTMLElement);
    try {
      const kept = await api.purge({ older_than: ALL_ENDED, dry_run: true });
      this.#refusal = undefined;
      summary.textContent = `${counted(kept.jobs, 'job')} kept, ${bytes(kept.bytes)}`;
    } catch (error) {
      const { status, message } = /** @type {api.ApiError} */ (error);
      this.#refusal = status === 403 ? `Only an admin can change these. ${message}.` : message;
      summary.textContent = '';
    }
    if (this.#settings) this.#show(this.#settings);
  }

  /** @param {api.Settings} settings */
  #show(settings) {
    this.#settings = settings;
    const isFixed = (/** @type {string} */ name) => settings.fixed_by_environment.includes(name);
    const isRefused = this.#refusal !== undefined;
    this.#tracking.checked = settings.tracking_enabled;
    this.#tracking.disabled = isRefused || isFixed('tracking_enabled');
    byId('tracking-fixed', HTMLElement).hidden = !isFixed('tracking_enabled');
    this.#keep.disabled = isRefused || isFixed('retention_days');
    byId('keep-fixed', HTMLElement).hidden = !isFixed('retention_days');
    this.#purge.disabled = isRefused;
    this.#problem.textContent = [this.#refusal, settings.problem].filter(Boolean).join(' ');
    this.#problem.hidden = this.#problem.textContent === '';

    const radios = this.#radios();
    const chosen = radios.find(({ value }) => Number(value) === settings.retention_days && value !== 'other');
    const radio = chosen ?? radios.find(({ value }) => value === 'other');
    if (radio) radio.checked = true;
    if (!chosen) this.#otherDays.value = String(settings.retention_days);
    this.#otherDays.disabled = chosen !== undefined;
    this.#onChange(settings);
    return settings;
  }

  #radios() {
    const all = this.#keep.querySelectorAll('input[type=radio]');
    return /** @type {HTMLInputElement[]} */ ([...all]);
  }

  /** @param {HTMLInputElement} target */
  async #onKeep(target) {
    if (target.value === 'other' && target.type === 'radio') {
      this.#otherDays.disabled = false;
      this.#otherDays.focus();
      return;
    }
    if (target === this.#otherDays && !target.reportValidity()) return;
    const days = Number(target.value);
    if (days === this.#settings?.retention_days) return;
    if ((await this.#mayKeepOnly(days)) === false) {
      if (this.#settings) this.#show(this.#settings);
      return;
    }
    await this.#change({ retention_days: days });
  }

  /** A shorter time takes jobs away, if not at once: nobody is to find that out afterwards. @param {number} days */
  async #mayKeepOnly(days) {
    if (days === 0) return true;
    const going = await api.purge({ older_than: days, dry_run: true }).catch(() => undefined);
    if (!going || going.jobs === 0) return true;
    return ask({
      title: `Keep jobs for ${counted(days, 'day')}?`,
      text: `${counted(going.jobs, 'job')} (${bytes(going.bytes)}) ended longer ago than that, and will be removed within hours.`,
      yes: `Keep ${counted(days, 'day')}`,
      no: 'Leave it as it is',
    });
  }

  /** @param {Partial<api.Settings>} changes */
  async #change(changes) {
    try {
      this.#show(await api.settings(changes));
      notify(said(changes));
    } catch (error) {
      notify(/** @type {Error} */ (error).message, 'error');
      if (this.#settings) this.#show(this.#settings);
    }
  }

  /** Resolves to whether anything was removed. */
  async #purgeNow() {
    const given = this.#purgeAge.value;
    const age = given === 'all' ? ALL_ENDED : Number(given);
    const what =
      given === 'all' ? 'that have ended' : `that ended more than ${counted(Number(given), 'day')} ago`;
    const going = await api.purge({ older_than: age, dry_run: true });
    if (going.jobs === 0) {
      this.#purged.textContent = `There are no jobs ${what}: nothing to remove.`;
      return false;
    }
    const count = counted(going.jobs, 'job');
    const yes = await ask({
      title: `Remove ${count}?`,
      text: `${count} ${what}, ${bytes(going.bytes)} with their pictures, will go for good. Nobody can bring them back.`,
      yes: `Remove ${count}`,
    });
    if (!yes) return false;
    const gone = await api.purge({ older_than: age });
    this.#purged.textContent = `${counted(gone.jobs, 'job')} removed, ${bytes(gone.bytes)} freed.`;
    this.#judge();
    this.#look();
    return true;
  }
}

/** @param {Partial<api.Settings>} changes */
function said({ tracking_enabled: tracking, retention_days: days }) {
  if (tracking !== undefined)
    return tracking ? 'Tracking is on' : 'Tracking is off: generations leave no trace';
  return days === 0
    ? 'Jobs are kept for ever'
    : `Jobs are kept for ${number(days ?? 0)} ${days === 1 ? 'day' : 'days'}`;
}
