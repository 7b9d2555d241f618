/**
 * JSON whose numbers stay as the backend wrote them: a seed of 64 bits, or `7.0`, which JavaScript's own numbers change.
 * Older browsers, which do not tell how a number was written, show it as JavaScript has it.
 */

/** What TypeScript does not know yet. */
const { rawJSON, isRawJSON } =
  /** @type {{ rawJSON?: (text: string) => unknown, isRawJSON?: (value: unknown) => boolean }} */ (JSON);

/** @param {string} text @returns {unknown} */
export function parseExact(text) {
  /** @type {(key: string, value: unknown, context?: { source?: string }) => unknown} */
  const revive = (_key, value, context) =>
    typeof value === 'number' && context?.source !== undefined && String(value) !== context.source && rawJSON
      ? rawJSON(context.source)
      : value;
  return JSON.parse(text, revive);
}

/** A value for people: a text as it is, anything else as JSON. @param {unknown} value */
export function textOf(value) {
  if (typeof value === 'string') return value;
  return JSON.stringify(value) ?? '';
}

/** True for `{…}`, and not for a number that is kept as it was written. @param {unknown} value @returns {value is Record<string, unknown>} */
export function isRecord(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isRawJSON?.(value);
}
