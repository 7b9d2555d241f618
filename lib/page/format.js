/** How times, sizes and numbers read. Times are unix seconds, as the API has them. */

const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const DAY_OF_YEAR = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const NUMBER = new Intl.NumberFormat();

/** @param {number} time */
export const timeOfDay = (time) => TIME.format(time * 1000);
/** @param {number} time */
export const fullTime = (time) => FULL.format(time * 1000);
/** @param {number} count */
export const number = (count) => NUMBER.format(count);

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** The day of a time where the reader is, as `2026-11-22`. @param {number} time */
export function dayKey(time) {
  const date = new Date(time * 1000);
  const pad = (/** @type {number} */ part) => String(part).padStart(2, '0');
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** "Today", "Yesterday", "Sunday, November 22". @param {number} time */
export function dayName(time) {
  const now = Date.now() / 1000;
  if (dayKey(time) === dayKey(now)) return 'Today';
  const yesterday = new Date();
  yesterday.setDate(yesterday.getDate() - 1);
  if (dayKey(time) === dayKey(yesterday.getTime() / 1000)) return 'Yesterday';
  const isThisYear = new Date(time * 1000).getFullYear() === new Date().getFullYear();
  return (isThisYear ? DAY : DAY_OF_YEAR).format(time * 1000);
}

/** "4.2 s", "3 min 20 s", "2 h 5 min". @param {number} seconds */
export function duration(seconds) {
  if (!(seconds >= 0)) return '';
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return withRest(minutes, 'min', whole % 60, 's');
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? withRest(hours, 'h', minutes % 60, 'min') : `${Math.floor(hours / 24)} days`;
}

/** @param {number} count @param {string} unit @param {number} rest @param {string} restUnit */
const withRest = (count, unit, rest, restUnit) =>
  rest === 0 ? `${count} ${unit}` : `${count} ${unit} ${rest} ${restUnit}`;

/** "698 MB". @param {number} count */
export function bytes(count) {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB', 'PB'];
  let size = count;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 || size >= 99.5 ? Math.round(size) : Number(size.toPrecision(2))} ${units[unit]}`;
}

/** How long a job took, or has taken so far. @param {import('./api.js').Job} job @param {number} [now] unix seconds */
export function took(job, now) {
  const end = job.finished_at ?? now;
  const start = job.started_at ?? (job.finished_at === undefined ? undefined : job.timestamp);
  return start === undefined || end === undefined ? undefined : Math.max(0, end - start);
}

const BACKENDS = /** @type {Record<string, string>} */ ({ a1111: 'A1111', comfyui: 'ComfyUI' });
/** @param {string} name */
export const backendTitle = (name) => BACKENDS[name] ?? name;

const STATUSES = /** @type {Record<string, string>} */ ({ Pending: 'Waiting', Processing: 'Running' });
/** @param {string} status */
export const statusWord = (status) => STATUSES[status] ?? status;
