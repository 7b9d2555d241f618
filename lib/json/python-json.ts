/** A string, which may hold anything, or a number that only Python knows how to write. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\b(?:NaN|Infinity)\b/gs;

/**
 * What Python's json has written, as JSON: it writes `NaN` and `Infinity`, which JSON does not know and which become `null`
 * here. Nothing else is changed.
 */
export function asPlainJson(text: string): string {
  if (!/NaN|Infinity/.test(text)) return text;
  return text.replace(TOKENS, (token) => (token.startsWith('"') ? token : 'null'));
}
