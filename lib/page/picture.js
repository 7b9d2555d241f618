import { adviceFor } from './advice.js';
import { imageUrl, thumbnailUrl } from './api.js';
import { h } from './dom.js';

/** @typedef {'image' | 'video' | 'audio' | 'file'} MediaKind */

const KINDS = /** @type {Record<string, MediaKind>} */ ({
  ...Object.fromEntries(['png', 'jpg', 'jpeg', 'webp', 'gif', 'avif', 'bmp'].map((name) => [name, 'image'])),
  ...Object.fromEntries(['mp4', 'webm', 'mov', 'mkv', 'm4v'].map((name) => [name, 'video'])),
  ...Object.fromEntries(['mp3', 'wav', 'flac', 'ogg', 'opus', 'm4a'].map((name) => [name, 'audio'])),
});

/** @param {import('./api.js').Job} job @param {number} n */
export const fileName = (job, n) => job.output_paths[n]?.split(/[\\/]/).at(-1) ?? `${job.id}-${n}`;

/** What an output is, by its name. @param {import('./api.js').Job} job @param {number} n @returns {MediaKind} */
export function kindOf(job, n) {
  const name = fileName(job, n);
  return KINDS[name.slice(name.lastIndexOf('.') + 1).toLowerCase()] ?? 'file';
}

const WORDS = { image: 'Picture', video: 'Video', audio: 'Sound', file: 'File' };

/** A job's first picture, small; a word where there is none. @param {import('./api.js').Job} job */
export function thumbnail(job) {
  const first = job.output_paths.findIndex((_path, n) => kindOf(job, n) === 'image');
  const n = Math.max(0, first);
  if (job.output_paths.length === 0) return placeholder(job.error ? adviceFor(job).title : '');
  // Videos have small pictures too, where the gateway can make them.
  if (first < 0 && kindOf(job, 0) !== 'video') return placeholder(WORDS[kindOf(job, 0)]);
  const picture = h('img', { src: thumbnailUrl(job.id, n), alt: '', loading: 'lazy', decoding: 'async' });
  picture.addEventListener(
    'error',
    () => {
      // A gateway that makes no small pictures has the large one.
      picture.addEventListener('error', () => picture.replaceWith(placeholder(WORDS[kindOf(job, n)])), {
        once: true,
      });
      if (first < 0) picture.replaceWith(placeholder(WORDS.video));
      else picture.src = imageUrl(job.id, n);
    },
    { once: true },
  );
  return picture;
}

/** @param {string} word */
const placeholder = (word) => h('span', { class: 'no-picture' }, word);

/**
 * One output, large: what the browser can show, else a link to it.
 *
 * @param {import('./api.js').Job} job
 * @param {number} n
 */
export function largeOutput(job, n) {
  const url = imageUrl(job.id, n);
  const name = fileName(job, n);
  const instead = (/** @type {string} */ text) =>
    h('p', { class: 'file' }, `${text} `, h('a', { href: url, download: name }, `Download ${name}`));
  const kind = kindOf(job, n);
  if (kind === 'file') return instead('The browser does not show this kind of file.');
  const properties = {
    src: url,
    controls: kind !== 'image',
    ...(kind === 'video' && { loop: true, playsinline: true }),
  };
  const count = job.output_paths.length;
  const label = `${WORDS[kind]} ${n + 1} of ${count}: ${job.prompt.slice(0, 200) || 'no prompt'}`;
  const output =
    kind === 'image'
      ? h('img', { src: url, alt: label })
      : h(kind, { ...properties, 'aria-label': label, preload: 'metadata' });
  output.addEventListener('error', () => output.replaceWith(instead('This file cannot be shown here.')), {
    once: true,
  });
  return output;
}
