/** So many times may a path be encoded over and over. */
const MAX_DECODINGS = 4;
/** Most paths are what they should be. */
const CANONICAL = /^(?:\/[a-z\d_-]+)+$/;

/**
 * One form for all the ways of writing a path that one server or another takes for the same: decoded, in lower case,
 * without dots, backslashes, doubled slashes and one at the end. For telling what may be meant, never for forwarding.
 */
export function canonicalPath(path: string): string {
  if (CANONICAL.test(path)) return path;
  let text = path;
  for (let count = 0; count < MAX_DECODINGS; count += 1) {
    const decoded = text.replace(/%([0-9a-f]{2})/gi, (_match, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    if (decoded === text) break;
    text = decoded;
  }
  const segments: string[] = [];
  for (const segment of text.toLowerCase().split(/[/\\]+/)) {
    if (segment === '..') segments.pop();
    else if (segment !== '' && segment !== '.') segments.push(segment);
  }
  return `/${segments.join('/')}`;
}
