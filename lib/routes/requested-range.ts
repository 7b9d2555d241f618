import type { IncomingMessage } from 'node:http';

/** Both ends inclusive. */
export interface RequestedRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The one range of a file that a request asks for (RFC 9110, section 14). Undefined where the whole is to be answered:
 * without a range, for several at once, for one that makes no sense, and where `If-Range` names another file. What
 * `If-None-Match` says counts first, and is left to the caller.
 */
export function requestedRange(
  req: IncomingMessage,
  { sizeBytes, etag }: { sizeBytes: number; etag: string },
): RequestedRange | 'unsatisfiable' | undefined {
  const { range = '', 'if-range': ifRange } = req.headers;
  if (req.method !== 'GET' || (ifRange !== undefined && ifRange !== etag)) return undefined;
  const [, first, last] = /^bytes=\s*(\d*)-(\d*)\s*$/i.exec(range) ?? [];
  if (first === undefined || last === undefined || first + last === '') return undefined;
  if (first === '') {
    // The last so many bytes, or all where the file has fewer.
    const length = Math.min(Number(last), sizeBytes);
    return length === 0 ? 'unsatisfiable' : { start: sizeBytes - length, end: sizeBytes - 1 };
  }
  const start = Number(first);
  const end = last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  if (last !== '' && start > Number(last)) return undefined;
  return start >= sizeBytes ? 'unsatisfiable' : { start, end };
}
