import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { addressGroup } from '../../lib/auth/address-group.js';

describe('what counts as one caller', () => {
  test.each([
    ['1.2.3.4', '1.2.3.4'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['::FFFF:1.2.3.4', '1.2.3.4'],
    ['::ffff:102:304', '1.2.3.4'],
    ['0:0:0:0:0:ffff:0102:0304', '1.2.3.4'],
    ['1.2.3.4:5678', '1.2.3.4'],
    ['[::ffff:1.2.3.4]:80', '1.2.3.4'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
    ['2001:DB8:1:2::9', '2001:db8:1:2'],
    ['2001:0db8:0001:0002:ffff:ffff:ffff:ffff', '2001:db8:1:2'],
    ['[2001:db8:1:2::9]:443', '2001:db8:1:2'],
    ['[2001:db8:1:2::9]', '2001:db8:1:2'],
    ['2001:db8:1:3::9', '2001:db8:1:3'],
    ['2001:db8::1', '2001:db8:0:0'],
    ['fe80::1%eth0', 'fe80:0:0:0'],
    ['fe80::2%wlan0', 'fe80:0:0:0'],
    ['::ffff:1.2.3.4%2', '1.2.3.4'],
    ['::1', '0:0:0:0'],
    ['::', '0:0:0:0'],
    ['1::', '1:0:0:0'],
    ['64:ff9b:1:2::1.2.3.4', '64:ff9b:1:2'],
    ['', ''],
    ['unknown', ''],
    ['1.2.3', ''],
    ['1.2.3.4.5:80', ''],
    ['2001:db8', ''],
    ['1.2.3.4, 5.6.7.8', ''],
    [undefined, ''],
  ])('%s is %s', (address, group) => {
    expect(addressGroup(address)).toBe(group);
  });

  test('an IPv6 address in any of its forms is its first four words', () => {
    const word = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
    const words = fc.array(word, { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(words, (all) => {
        // What is mapped or has a dotted end by nature is told apart above.
        fc.pre(all.slice(0, 5).some((one) => one !== 0));
        const group = all
          .slice(0, 4)
          .map((one) => one.toString(16))
          .join(':');
        const long = all.map((one) => one.toString(16).padStart(4, '0')).join(':');
        const short = new URL(`http://[${long}]/`).hostname.slice(1, -1);
        expect(addressGroup(long)).toBe(group);
        expect(addressGroup(long.toUpperCase())).toBe(group);
        expect(addressGroup(short)).toBe(group);
      }),
    );
  });
});
