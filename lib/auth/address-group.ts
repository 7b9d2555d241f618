import { isIPv4, isIPv6 } from 'node:net';

/**
 * What counts as one caller: an IPv4 address, or the /64 of an IPv6 address, because whoever has one address of it has
 * all of them. `''` for what is no address; a proxy's `X-Forwarded-For` may hold anything.
 */
export function addressGroup(address: string | undefined): string {
  const plain = withoutPort(address ?? '').replace(/%.*$/s, '');
  if (isIPv4(plain)) return plain;
  if (!isIPv6(plain)) return '';
  const words = wordsOf(plain);
  // ::ffff:1.2.3.4 is how a socket for both families shows an IPv4 address.
  const isMapped = words.slice(0, 6).join() === '0,0,0,0,0,65535';
  if (isMapped) return words.slice(6).flatMap(bytesOf).join('.');
  return words
    .slice(0, 4)
    .map((word) => word.toString(16))
    .join(':');
}

/** Some proxies write the port, too: `1.2.3.4:5678`, `[2001:db8::1]:5678`. */
function withoutPort(address: string): string {
  const [, bracketed, dotted] = /^(?:\[([^\]]*)\](?::\d+)?|([\d.]+):\d+)$/.exec(address) ?? [];
  return bracketed ?? dotted ?? address;
}

/** The eight words of a valid IPv6 address. */
function wordsOf(address: string): number[] {
  const [head = '', tail] = address.split('::');
  const first = partOf(head);
  if (tail === undefined) return first;
  const last = partOf(tail);
  return [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
}

function partOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((word) => {
    if (!word.includes('.')) return [Number.parseInt(word, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = word.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}

function bytesOf(word: number): [number, number] {
  return [word >> 8, word & 255];
}
