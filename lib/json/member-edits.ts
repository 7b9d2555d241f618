import type { TextEdit } from './text-edits.js';
import type { TopLevelMembers } from './top-level-members.js';

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
