/** A whole number as Python's `int` reads it. */
const INTEGER = /^\s*[+-]?\d+(?:_\d+)*\s*$/;

/** Which part of the history somebody asks for. */
export interface HistoryQuery {
  /** Undefined for all. */
  readonly maxItems: number | undefined;
  /** Below 0: the last ones. */
  readonly offset: number;
}

/** Reads `max_items` and `offset`; undefined where ComfyUI has to say what it makes of them. */
export function readHistoryQuery(query: URLSearchParams): HistoryQuery | undefined {
  const maxItems = integerOf(query.get('max_items'));
  const offset = integerOf(query.get('offset'));
  if (Number.isNaN(maxItems) || Number.isNaN(offset)) return undefined;
  return { maxItems, offset: offset ?? -1 };
}

/**
 * The places of a list of so many entries that ComfyUI shows for a query, `end` exclusive. Whatever `max_items` is, one entry is shown
 * from an `offset` that is not negative: ComfyUI counts after it has taken one.
 */
export function shownPlaces(
  { maxItems, offset }: HistoryQuery,
  count: number,
): { readonly start: number; readonly end: number } {
  const from = offset < 0 && maxItems !== undefined ? count - maxItems : offset;
  const start = Math.min(Math.max(from, 0), count);
  const end = maxItems === undefined ? count : Math.min(start + Math.max(maxItems, 1), count);
  return { start, end };
}

function integerOf(text: string | null): number | undefined {
  if (text === null) return undefined;
  const value = INTEGER.test(text) ? Number(text.replaceAll('_', '')) : Number.NaN;
  return Number.isSafeInteger(value) ? value : Number.NaN;
}
