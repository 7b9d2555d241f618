import { byId, h } from './dom.js';
import { backendTitle, bytes, number } from './format.js';

/** @typedef {import('./api.js').PartHealth} PartHealth */

/** How the gateway is, and how full its disk. @param {import('./api.js').Health} health */
export function showHealth({ store, images, backends = {}, queue, disk }) {
  /** @type {[string, PartHealth | undefined][]} */
  const parts = [
    ['Records', store],
    ['Pictures', images],
    ...Object.entries(backends).map(
      ([name, part]) => /** @type {[string, PartHealth]} */ ([backendTitle(name), part]),
    ),
  ];
  const lines = parts.flatMap(([name, part]) =>
    part ? [line(name, part.ok, part.error ?? (part.ok ? 'fine' : 'not well'))] : [],
  );
  if (queue)
    lines.push(line('Queue', true, `${number(queue.running)} running, ${number(queue.waiting)} waiting`));
  byId('health', HTMLElement).replaceChildren(...lines.flat());
  showDisk(disk);
}

/** @param {string} name @param {boolean} isOk @param {string} text */
function line(name, isOk, text) {
  return [h('dt', {}, name), h('dd', { 'data-ok': String(isOk) }, text)];
}

/** @param {import('./api.js').Health['disk']} disk */
function showDisk(disk) {
  const meter = byId('disk', HTMLMeterElement);
  const text = byId('disk-text', HTMLElement);
  const { free_bytes: free, total_bytes: total, images_bytes: kept = 0 } = disk ?? {};
  meter.hidden = free === undefined || total === undefined;
  if (free !== undefined && total !== undefined) {
    meter.max = total;
    meter.low = total * 0.8;
    meter.high = total * 0.95;
    meter.value = total - free;
    text.textContent = `${bytes(free)} of ${bytes(total)} free; jobs take ${bytes(kept)}`;
  } else {
    text.textContent = disk ? `Jobs take ${bytes(kept)}` : '';
  }
}
