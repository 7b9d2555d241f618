import { describe, expect, test } from '@jest/globals';
import { Throttle } from '../../lib/auth/throttle.js';

function throttleAt(options: { limit: number; windowMs: number }) {
  const clock = { ms: 1_000_000 };
  return { clock, throttle: new Throttle({ ...options, now: () => clock.ms }) };
}

function countTimes(throttle: Throttle, times: number, address: string | undefined): void {
  for (let i = 0; i < times; i += 1) throttle.count(address);
}

describe('a throttle', () => {
  test('bears `limit` events; then the address is blocked until the window ends', () => {
    const { clock, throttle } = throttleAt({ limit: 20, windowMs: 60_000 });
    throttle.count('1.2.3.4');
    clock.ms += 20_000;
    countTimes(throttle, 18, '1.2.3.4');
    expect(throttle.blockedFor('1.2.3.4')).toBe(0);
    expect(throttle.remaining('1.2.3.4')).toBe(1);
    throttle.count('1.2.3.4');
    expect(throttle.blockedFor('1.2.3.4')).toBe(40_000);
    expect(throttle.remaining('1.2.3.4')).toBe(0);
    clock.ms += 39_999;
    expect(throttle.blockedFor('1.2.3.4')).toBe(1);
    clock.ms += 1;
    expect(throttle.blockedFor('1.2.3.4')).toBe(0);
    expect(throttle.remaining('1.2.3.4')).toBe(20);
    countTimes(throttle, 19, '1.2.3.4');
    expect(throttle.blockedFor('1.2.3.4')).toBe(0);
  });

  test('events while it is blocked do not make it longer', () => {
    const { clock, throttle } = throttleAt({ limit: 2, windowMs: 1_000 });
    countTimes(throttle, 2, '1.2.3.4');
    clock.ms += 999;
    countTimes(throttle, 5, '1.2.3.4');
    expect(throttle.blockedFor('1.2.3.4')).toBe(1);
    expect(throttle.remaining('1.2.3.4')).toBe(0);
  });

  test('keeps addresses apart', () => {
    const { throttle } = throttleAt({ limit: 1, windowMs: 1_000 });
    throttle.count('1.2.3.4');
    expect(throttle.blockedFor('1.2.3.5')).toBe(0);
  });

  test.each([
    ['one /64', '2001:db8:1:2::1', '2001:db8:1:2:ffff::9'],
    ['an IPv4 address, also as IPv6', '::ffff:1.2.3.4', '1.2.3.4'],
    ['what has no address', undefined, ''],
    ['what is no address', 'unknown', undefined],
  ])('%s counts as one caller', (_name, one, other) => {
    const { throttle } = throttleAt({ limit: 1, windowMs: 1_000 });
    throttle.count(one);
    expect(throttle.blockedFor(other)).toBe(1_000);
  });

  test('what is said to be the same event counts once in a window', () => {
    const { clock, throttle } = throttleAt({ limit: 3, windowMs: 1_000 });
    for (const event of ['a', 'b', 'a', 'b', 'a']) throttle.count('1.2.3.4', event);
    expect(throttle.remaining('1.2.3.4')).toBe(1);
    throttle.count('1.2.3.5', 'a');
    expect(throttle.remaining('1.2.3.5')).toBe(2);
    clock.ms += 1_000;
    throttle.count('1.2.3.4', 'a');
    expect(throttle.remaining('1.2.3.4')).toBe(2);
  });

  test('a clock that is set back blocks nobody for longer than a window', () => {
    const { clock, throttle } = throttleAt({ limit: 1, windowMs: 1_000 });
    throttle.count('1.2.3.4');
    clock.ms -= 3_600_000;
    expect(throttle.blockedFor('1.2.3.4')).toBe(0);
    throttle.count('1.2.3.4');
    expect(throttle.blockedFor('1.2.3.4')).toBe(1_000);
  });

  test('remembers 10,000 addresses; the one whose window began first goes first', () => {
    const { clock, throttle } = throttleAt({ limit: 1, windowMs: 1_000 });
    const address = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
    const isKnown = (n: number) => throttle.blockedFor(address(n)) > 0;
    throttle.count(address(0));
    throttle.count(address(1));
    clock.ms += 1_000;
    // Its window has ended, and begins anew after that of address 1.
    throttle.count(address(0));
    for (let n = 2; n <= 10_000; n += 1) throttle.count(address(n));
    expect(isKnown(0)).toBe(true);
    throttle.count(address(10_001));
    expect(isKnown(0)).toBe(false);
    expect(isKnown(2)).toBe(true);
    throttle.count(address(10_002));
    expect(isKnown(2)).toBe(false);
    expect(isKnown(3)).toBe(true);
    for (let n = 10_003; n < 60_000; n += 1) throttle.count(address(n));
    expect([49_999, 50_000, 59_999].map(isKnown)).toEqual([false, true, true]);
  });
});
