import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { memberRemovals } from '../../lib/json/member-edits.js';
import { editedText } from '../../lib/json/text-edits.js';
import { TopLevelMembers } from '../../lib/json/top-level-members.js';

function without(names: readonly string[], text: string): string {
  const bytes = Buffer.from(text);
  const members = new TopLevelMembers();
  members.write(bytes);
  members.end();
  return editedText(bytes, memberRemovals(bytes, bytes.indexOf('{'), members, names)).toString();
}

describe('members are taken out', () => {
  test.each([
    ['{"a": 1, "b": 2, "c": 7.0}', ['b'], '{"a": 1, "c": 7.0}'],
    ['{"a": 1, "b": 2, "c": 7.0}', ['a'], '{"b": 2, "c": 7.0}'],
    ['{"a": 1, "b": 2, "c": 7.0}', ['c'], '{"a": 1, "b": 2}'],
    ['{"a": 1, "b": 2, "c": 7.0}', ['a', 'b'], '{"c": 7.0}'],
    ['{"a": 1, "b": 2, "c": 7.0}', ['b', 'c'], '{"a": 1}'],
    ['{"a": 1, "b": 2, "c": 7.0}', ['a', 'c'], '{"b": 2}'],
    [' { "a" : 1 } ', ['a'], ' { } '],
    ['{"a": "}{\\"", "b": [{}]}', ['a', 'b'], '{}'],
    ['{}', ['a'], '{}'],
    ['{"a": 1}', ['x'], '{"a": 1}'],
  ])('%s less %j', (text, names, rest) => {
    expect(without(names, text)).toBe(rest);
  });

  test('from whatever object: the rest is what it was, in its order', () => {
    const anyObject = fc.dictionary(
      fc.string({ maxLength: 3 }).filter((name) => name !== '__proto__'),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(anyObject, fc.func(fc.boolean()), (object, isUnwanted) => {
        const names = Object.keys(object).filter((name) => isUnwanted(name));
        const kept = Object.entries(JSON.parse(JSON.stringify(object))).filter(
          ([name]) => !names.includes(name),
        );
        expect(Object.entries(JSON.parse(without(names, JSON.stringify(object))))).toEqual(kept);
      }),
    );
  });
});
