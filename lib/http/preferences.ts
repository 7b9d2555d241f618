const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;
const QUOTED = /^"((?:[^"\\]|\\.)*)"$/s;

/**
 * What a `Prefer` header asks for (RFC 7240): names in lower case with their values, `''` where there is none. Of a name
 * that comes twice the first one counts; what cannot be understood is ignored, as the standard has it, and so are the
 * parameters of a preference.
 */
export function readPreferences(header: string | readonly string[] | undefined): ReadonlyMap<string, string> {
  const preferences = new Map<string, string>();
  for (const item of splitOutsideQuotes([header ?? []].flat().join(','), ',')) {
    const [preference = ''] = splitOutsideQuotes(item, ';');
    const [name = '', ...rest] = preference.split('=');
    const value = wordOf(rest.length > 0 ? rest.join('=').trim() : undefined);
    const key = name.trim().toLowerCase();
    if (value !== undefined && TOKEN.test(key) && !preferences.has(key)) preferences.set(key, value);
  }
  return preferences;
}

/** Undefined for a value that is neither a token nor a quoted text. */
function wordOf(text: string | undefined): string | undefined {
  if (text === undefined || TOKEN.test(text)) return text ?? '';
  return QUOTED.exec(text)?.[1]?.replace(/\\(.)/gs, '$1');
}

function splitOutsideQuotes(text: string, separator: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (isQuoted && character === '\\') at += 1;
    else if (character === '"') isQuoted = !isQuoted;
    else if (character === separator && !isQuoted) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}
