import type { TopLevelMembers } from '../json/top-level-members.js';
import { isObject } from '../value-kind.js';

/** So much of a prompt stands in a record, in UTF-16 code units. */
export const MAX_PROMPT_LENGTH = 10_000;
/** And so much of any other text. */
export const MAX_FIELD_LENGTH = 1_000;

/** A member of a request that is a text. */
export function textOf(members: TopLevelMembers, name: string): string | undefined {
  const value = jsonOf(members.get(name)?.text);
  return typeof value === 'string' ? value : undefined;
}

/** A raw JSON value as a record holds it: a number that JavaScript cannot hold exactly as its text. */
export function scalarOf(text: string | undefined): string | number | boolean | undefined {
  if (text === undefined) return undefined;
  const value = jsonOf(text);
  if (typeof value === 'number') return isHeldExactly(value) ? value : shortened(text, MAX_FIELD_LENGTH);
  if (typeof value === 'boolean') return value;
  return typeof value === 'string' && value ? shortened(value, MAX_FIELD_LENGTH) : undefined;
}

/** False for a 64-bit seed, and for what is too large for any number. */
function isHeldExactly(value: number): boolean {
  return Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
}

export function jsonOf(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON: it is the backend's to judge, and says nothing to us.
    return undefined;
  }
}

export function shortened(text: string, maxLength: number): string {
  return text.length <= maxLength ? text : `${text.slice(0, maxLength - 1)}…`;
}

/** The members of a parsed value; of anything but an object there are none. */
export function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return isObject(value) ? value : {};
}
