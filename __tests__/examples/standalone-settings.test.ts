import { expect, test } from '@jest/globals';
import { readSettings } from '../../examples/standalone/settings.js';

test('everything has a default, and an empty variable counts as absent', () => {
  const defaults = {
    a1111Url: new URL('http://127.0.0.1:7860'),
    comfyuiUrl: undefined,
    host: '127.0.0.1',
    port: 8080,
    dir: undefined,
    hasLogin: false,
    trustProxy: false,
    hosts: [],
    corsOrigins: undefined,
  };
  expect(readSettings({})).toEqual(defaults);
  const names =
    'A1111_URL HOST PORT TRACKER_DIR TRACKER_CONCURRENCY TRACKER_TRUST_PROXY TRACKER_HOSTS TRACKER_CORS TRACKER_OPEN ' +
    'COMFYUI_URL TRACKER_AUTH TRACKER_ADMINS TRACKER_ENABLED TRACKER_RETENTION';
  const empty = (value: string) => Object.fromEntries(names.split(' ').map((name) => [name, value]));
  expect(readSettings(empty(''))).toEqual(defaults);
  expect(readSettings(empty('  '))).toEqual(defaults);
});

test.each([
  [
    'A1111_URL',
    ' https://me:pw@a.example:444/sd/ ',
    { a1111Url: new URL('https://me:pw@a.example:444/sd/') },
  ],
  ['A1111_URL', 'http://[::1]:7860', { a1111Url: new URL('http://[::1]:7860') }],
  ['HOST', 'localhost', { host: 'localhost' }],
  ['HOST', '127.0.0.2', { host: '127.0.0.2' }],
  ['HOST', '::1', { host: '::1' }],
  ['HOST', '[::1]', { host: '::1' }],
  ['PORT', '0', { port: 0 }],
  ['PORT', '65535', { port: 65_535 }],
  ['TRACKER_DIR', '/data', { dir: '/data' }],
  ['TRACKER_AUTH', 'ann:secret', { hasLogin: true }],
  ['TRACKER_AUTH', 'backend', { hasLogin: true }],
  ['TRACKER_AUTH', ' ', { hasLogin: false }],
  ['TRACKER_TRUST_PROXY', 'false', { trustProxy: false }],
  ['TRACKER_TRUST_PROXY', 'true', { trustProxy: true }],
  ['TRACKER_TRUST_PROXY', '0', { trustProxy: 0 }],
  ['TRACKER_TRUST_PROXY', '2', { trustProxy: 2 }],
  [
    'TRACKER_TRUST_PROXY',
    'loopback,10.0.0.0/8 , ::1,fd00::/8',
    { trustProxy: 'loopback, 10.0.0.0/8, ::1, fd00::/8' },
  ],
  ['TRACKER_HOSTS', ' pictures.lan, 10.0.0.5,[fd00::5] ', { hosts: ['pictures.lan', '10.0.0.5', 'fd00::5'] }],
  ['TRACKER_CORS', '*', { corsOrigins: '*' }],
  [
    'TRACKER_CORS',
    'https://a.example, http://localhost:3000',
    { corsOrigins: ['https://a.example', 'http://localhost:3000'] },
  ],
  ['TRACKER_OPEN', '0', {}],
  ['TRACKER_OPEN', '1', {}],
])('%s=%s', (name, value, expected) => {
  expect(readSettings({ [name]: value })).toMatchObject(expected);
});

const address = 'an address such as "http://127.0.0.1:7860"';
const hops = 'true, false, a number of hops, or addresses such as "loopback, 10.0.0.0/8"';
const hosts = 'names without a port, such as "pictures.lan, 10.0.0.5"';
const origins = 'origins such as "https://app.example.com", or "*"';

test.each([
  ['A1111_URL', '127.0.0.1:7860', address],
  ['A1111_URL', 'backend', address],
  ['A1111_URL', 'ftp://127.0.0.1', address],
  ['A1111_URL', 'http://127.0.0.1:7860/?a=1', address],
  ['A1111_URL', 'http://127.0.0.1:7860/#a', address],
  ['A1111_URL', 'http://127.0.0.1:99999', address],
  ['PORT', '-1', 'a whole number from 0 to 65535'],
  ['PORT', '65536', 'a whole number from 0 to 65535'],
  ['PORT', '80.5', 'a whole number from 0 to 65535'],
  ['PORT', '1e3', 'a whole number from 0 to 65535'],
  ['PORT', 'http', 'a whole number from 0 to 65535'],
  ['TRACKER_TRUST_PROXY', 'yes', hops],
  ['TRACKER_TRUST_PROXY', '-1', hops],
  ['TRACKER_TRUST_PROXY', '10.0.0.0/33', hops],
  ['TRACKER_TRUST_PROXY', '10.0.0.0/0', hops],
  ['TRACKER_TRUST_PROXY', '::1/129', hops],
  ['TRACKER_HOSTS', 'pictures.lan:8080', hosts],
  ['TRACKER_HOSTS', 'http://pictures.lan', hosts],
  ['TRACKER_CORS', 'app.example.com', origins],
  ['TRACKER_CORS', 'https://app.example.com/', origins],
  ['TRACKER_CORS', 'https://app.example.com/page', origins],
  ['TRACKER_CORS', 'null', origins],
  ['TRACKER_OPEN', 'yes', '1 or 0'],
])('%s=%s is refused', (name, value, expected) => {
  expect(() => readSettings({ [name]: value })).toThrow(
    new Error(`Expected ${name} to be ${expected}, got "${value}"`),
  );
});

test('of a list, the wrong part is named', () => {
  expect(() => readSettings({ TRACKER_TRUST_PROXY: 'loopback, proxy.lan' })).toThrow('got "proxy.lan"');
  expect(() => readSettings({ TRACKER_HOSTS: 'a.lan, b lan' })).toThrow('got "b lan"');
  expect(() => readSettings({ TRACKER_CORS: 'https://a.example, b' })).toThrow('got "b"');
});

test('a password in an address is not shown', () => {
  expect(() => readSettings({ A1111_URL: 'http://me:p@ss@host:99999' })).toThrow('got "http://…@host:99999"');
});

test.each(['0.0.0.0', '::', '192.168.0.5', 'gateway.lan', '128.0.0.1'])(
  'HOST=%s needs a login, or TRACKER_OPEN=1',
  (host) => {
    const refusal = `HOST=${host} lets everybody on the network generate and see all pictures: set TRACKER_AUTH=name:password, or TRACKER_OPEN=1 if that is wanted`;
    expect(() => readSettings({ HOST: host })).toThrow(new Error(refusal));
    expect(() => readSettings({ HOST: host, TRACKER_OPEN: '0' })).toThrow(new Error(refusal));
    expect(() => readSettings({ HOST: host, TRACKER_AUTH: ' ' })).toThrow(new Error(refusal));
    expect(readSettings({ HOST: host, TRACKER_OPEN: '1' }).host).toBe(host);
    expect(readSettings({ HOST: host, TRACKER_AUTH: 'ann:secret' }).host).toBe(host);
  },
);

test.each([
  [{ COMFYUI_URL: 'http://gpu:8188' }, undefined, 'http://gpu:8188/'],
  [{ COMFYUI_URL: 'http://gpu:8188', A1111_URL: 'http://gpu:7860' }, 'http://gpu:7860/', 'http://gpu:8188/'],
  [{ COMFYUI_URL: ' ' }, 'http://127.0.0.1:7860/', undefined],
])('%j: which backends there are', (env, a1111, comfyui) => {
  const { a1111Url, comfyuiUrl } = readSettings(env);
  expect([a1111Url?.href, comfyuiUrl?.href]).toEqual([a1111, comfyui]);
});

test('COMFYUI_URL has to be an address', () => {
  const refusal = 'Expected COMFYUI_URL to be an address such as "http://127.0.0.1:8188", got "gpu:8188"';
  expect(() => readSettings({ COMFYUI_URL: 'gpu:8188' })).toThrow(new Error(refusal));
});
