/** The bytes of a file that a request wants: both ends count. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * A `Range` of one part, against a file's size.
 *
 * @returns undefined where all is wanted; `unsatisfiable` where the file has none of it.
 */
export function readRange(
  header: string | undefined,
  sizeBytes: number,
): ByteRange | 'unsatisfiable' | undefined {
  if (header === undefined) return undefined;
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header) ?? [];
  if (first === '' && last === '') return 'unsatisfiable';
  if (first === '') {
    if (Number(last) === 0) return 'unsatisfiable';
    return { start: Math.max(0, sizeBytes - Number(last)), end: sizeBytes - 1 };
  }
  const start = Number(first);
  const end = last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  return start >= sizeBytes || end < start ? 'unsatisfiable' : { start, end };
}
