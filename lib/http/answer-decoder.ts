import type { Transform } from 'node:stream';
import zlib from 'node:zlib';

/** True for an answer whose bytes are what they stand for. */
export function isPlain(contentEncoding: string | undefined): boolean {
  return (
    contentEncoding === undefined || contentEncoding === '' || contentEncoding.toLowerCase() === 'identity'
  );
}

/**
 * A stream that undoes a `Content-Encoding` (RFC 9110, section 8.4.1), or undefined for one that this Node.js does not
 * know. An answer that breaks off in the middle is an error.
 */
export function createAnswerDecoder(contentEncoding: string): Transform | undefined {
  switch (contentEncoding.toLowerCase()) {
    case 'gzip':
    case 'x-gzip':
      return zlib.createGunzip();
    case 'deflate':
      return zlib.createInflate();
    case 'br':
      return zlib.createBrotliDecompress();
    default:
      return undefined;
  }
}
