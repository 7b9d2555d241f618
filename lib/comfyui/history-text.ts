import { setImmediate as nextTurn } from 'node:timers/promises';
import { ObjectScanner } from '../json/object-scanner.js';

const QUOTE = 0x22;
/** So much is looked through in one go. */
const SLICE_BYTES = 1024 * 1024;

/** An entry of a history: what ComfyUI calls the prompt, and `"<id>": {…}` as text. */
export interface HistoryMember {
  readonly promptId: string;
  readonly text: Buffer;
}

/** The entries of a history in ComfyUI's text, without parsing one; undefined where the text is something else. */
export async function historyMembers(text: Buffer): Promise<HistoryMember[] | undefined> {
  const members: HistoryMember[] = [];
  let lastEnd = 0;
  const scanner = new ObjectScanner({
    memberEnd: (promptId, _start, end) => {
      members.push({ promptId, text: text.subarray(text.indexOf(QUOTE, lastEnd), end) });
      lastEnd = end;
    },
  });
  for (let at = 0; at < text.length; at += SLICE_BYTES) {
    if (at > 0) await nextTurn();
    scanner.write(text.subarray(at, at + SLICE_BYTES));
  }
  return scanner.end().complete ? members : undefined;
}

/** A history of these entries, as Python writes it. */
export function historyText(members: readonly Pick<HistoryMember, 'text'>[]): Buffer {
  const pieces: Buffer[] = [];
  for (const { text } of members) pieces.push(Buffer.from(pieces.length === 0 ? '{' : ', '), text);
  return Buffer.concat([...(pieces.length === 0 ? [Buffer.from('{')] : pieces), Buffer.from('}')]);
}

/** @param entry the entry alone, as ComfyUI wrote it. */
export function historyMember(promptId: string, entry: Buffer): HistoryMember {
  return { promptId, text: Buffer.concat([Buffer.from(`${pythonString(promptId)}: `), entry]) };
}

/** A string as Python's json writes it. */
function pythonString(text: string): string {
  return JSON.stringify(text).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
