import { validateHeaderName, validateHeaderValue } from 'node:http';

/** What is kept of a request beside its body. */
export interface RequestHead {
  readonly method: string;
  /** Path and query below the mount. */
  readonly url: string;
  /** By their names in lower case; only those that may be kept. */
  readonly headers: Readonly<Record<string, string>>;
  /** The caller's address; `''` where it is not known. */
  readonly ip: string;
  /** The backend wants the caller's own login, which is not kept. */
  readonly needs_login?: true;
}

/** The head of a kept request from what was parsed, member by member; undefined where that is none. */
export function requestHead(value: unknown): RequestHead | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { method, url, headers, ip, needs_login } = value as Record<string, unknown>;
  if (typeof method !== 'string' || !isHeader(method, '')) return undefined;
  if (typeof url !== 'string' || !/^\/[\x21-\x7e\x80-\xff]*$/.test(url)) return undefined;
  if (typeof headers !== 'object' || headers === null || typeof ip !== 'string') return undefined;
  const pairs = Object.entries(headers);
  if (!pairs.every(([name, text]) => name === name.toLowerCase() && isHeader(name, text))) return undefined;
  return {
    method,
    url,
    headers: Object.fromEntries(pairs),
    ip,
    // A mark that is there at all keeps the request from being sent.
    ...(needs_login !== undefined && { needs_login: true }),
  };
}

/** As strict as Node is with what it sends. */
function isHeader(name: string, value: unknown): boolean {
  try {
    validateHeaderName(name);
    validateHeaderValue(name, value as string);
    return typeof value === 'string';
  } catch {
    return false;
  }
}
