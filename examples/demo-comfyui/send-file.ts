import { type Stats, statSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { readRange } from './byte-range.js';
import { emptyReply, type Reply } from './reply.js';

/** A file as aiohttp sends it: with validators, and the part that is asked for. */
export function fileReply(
  path: string,
  body: Buffer,
  own: Readonly<Record<string, string>>,
  headers: IncomingHttpHeaders,
): Reply {
  const stats = statSync(path);
  const etag = `"${Math.round(stats.mtimeMs * 1e6).toString(16)}-${stats.size.toString(16)}"`;
  const validators = {
    ...own,
    etag,
    'last-modified': stats.mtime.toUTCString(),
    'accept-ranges': 'bytes',
  };
  if (isUnchanged(headers, etag, stats)) {
    const { 'content-type': _, ...kept } = validators as Record<string, string>;
    return { status: 304, headers: kept, body: Buffer.alloc(0) };
  }
  const range = mayBePart(headers, etag, stats) ? readRange(headers.range, body.length) : undefined;
  if (range === 'unsatisfiable') {
    const reply = emptyReply(416);
    const contentRange = `bytes */${body.length}`;
    return { ...reply, headers: { ...reply.headers, ...validators, 'content-range': contentRange } };
  }
  const part = range ? body.subarray(range.start, range.end + 1) : body;
  const whole = { ...validators, 'content-length': part.length };
  if (!range) return { status: 200, headers: whole, body };
  const contentRange = `bytes ${range.start}-${range.end}/${body.length}`;
  return { status: 206, headers: { ...whole, 'content-range': contentRange }, body: part };
}

function isUnchanged(headers: IncomingHttpHeaders, etag: string, { mtimeMs }: Stats): boolean {
  const tags = headers['if-none-match'];
  if (tags !== undefined) {
    return tags.split(',').some((tag) => [etag, '*'].includes(tag.trim().replace(/^W\//, '')));
  }
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return Math.floor(mtimeMs / 1000) * 1000 <= since;
}

/** A part is only of use to who has the rest of the same file. */
function mayBePart(headers: IncomingHttpHeaders, etag: string, { mtimeMs }: Stats): boolean {
  const condition = headers['if-range'];
  if (typeof condition !== 'string') return true;
  return condition === etag || Date.parse(condition) >= Math.floor(mtimeMs / 1000) * 1000;
}
