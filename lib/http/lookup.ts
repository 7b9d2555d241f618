import { lookup as systemLookup } from 'node:dns';
import type { LookupFunction } from 'node:net';

/**
 * Looks up a backend's host. `localhost` is known without the system: Node.js asks that on the same few threads that wait
 * for the disk, and a disk that hangs must not keep anybody from the backend (RFC 6761, section 6.3).
 */
export const lookup: LookupFunction = (hostname, options, callback) => {
  if (hostname !== 'localhost') {
    systemLookup(hostname, options, callback);
    return;
  }
  const addresses = [
    { address: '127.0.0.1', family: 4 },
    { address: '::1', family: 6 },
  ].filter(({ family }) => !options.family || options.family === family || options.family === `IPv${family}`);
  const [first] = addresses;
  process.nextTick(() => {
    if (options.all) callback(null, addresses);
    else callback(null, first?.address ?? '', first?.family);
  });
};
