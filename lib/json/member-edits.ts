import type { TextEdit } from './text-edits.js';
import type { TopLevelMember, TopLevelMembers } from './top-level-members.js';

/**
 * The edits that give members of a JSON object other values, and add those that it does not have. Nothing is added to
 * an object without any member.
 *
 * @param changes by name; a value is written as JSON.
 */
export function memberEdits(
  members: TopLevelMembers,
  changes: Readonly<Record<string, string | boolean>>,
): TextEdit[] {
  const edits: TextEdit[] = [];
  const added: string[] = [];
  let lastEnd = 0;
  for (const name of members.names()) lastEnd = Math.max(lastEnd, members.get(name)?.end ?? 0);
  for (const [name, value] of Object.entries(changes)) {
    const member = members.get(name);
    if (member) edits.push({ start: member.start, end: member.end, text: JSON.stringify(value) });
    else added.push(`,${JSON.stringify(name)}:${JSON.stringify(value)}`);
  }
  edits.sort((a, b) => a.start - b.start);
  if (added.length > 0 && lastEnd > 0) edits.push({ start: lastEnd, end: lastEnd, text: added.join('') });
  return edits;
}

/** The edits that take members out of a JSON object whose brace is at `objectStart` of `text`, commas and all. */
export function memberRemovals(
  text: Buffer,
  objectStart: number,
  members: TopLevelMembers,
  names: readonly string[],
): TextEdit[] {
  const all = [...members.names()].map((name) => ({ name, ...(members.get(name) as TopLevelMember) }));
  all.sort((a, b) => a.start - b.start);
  const firstKept = all.findIndex(({ name }) => !names.includes(name));
  const leading = firstKept === -1 ? all.length : firstKept;
  const edits: TextEdit[] = [];
  const lastLeading = all[leading - 1];
  if (lastLeading) {
    // Up to the name of what follows, so that its comma goes too.
    const end = firstKept === -1 ? lastLeading.end : text.indexOf('"', lastLeading.end);
    edits.push({ start: objectStart + 1, end, text: '' });
  }
  for (let at = leading + 1; at < all.length; at += 1) {
    const { name, end } = all[at] as (typeof all)[number];
    if (names.includes(name)) edits.push({ start: (all[at - 1] as (typeof all)[number]).end, end, text: '' });
  }
  return edits;
}
