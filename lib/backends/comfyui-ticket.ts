import { topLevelMembersOf } from '../json/top-level-members.js';
import type { AnswerCapture, CapturedAnswer } from './backend.js';
import { MAX_FIELD_LENGTH, shortened, textOf } from './request-values.js';

/** With the faults of every node in it, an answer may be larger than it mostly is. */
const MAX_TICKET_BYTES = 1024 * 1024;
const MAX_PROMPT_ID_LENGTH = 200;

/** Reads ComfyUI's answer to `POST /prompt`: `{"prompt_id": "…", "number": 7, "node_errors": {}}`. */
export class ComfyUITicket implements AnswerCapture {
  readonly accepting = true;
  onAccepting: () => void = () => {};
  readonly #chunks: Buffer[] = [];
  #sizeBytes = 0;

  write(chunk: Buffer): void {
    this.#sizeBytes += chunk.length;
    if (this.#sizeBytes <= MAX_TICKET_BYTES) this.#chunks.push(Buffer.from(chunk));
  }

  async end(): Promise<CapturedAnswer> {
    const text = Buffer.concat(this.#chunks);
    const members = topLevelMembersOf(text);
    const promptId = textOf(members, 'prompt_id');
    const isNamed = promptId !== undefined && promptId !== '' && promptId.length <= MAX_PROMPT_ID_LENGTH;
    if (members.whole && isNamed) {
      return { output_paths: [], ticket: { promptId, text: text.toString() } };
    }
    const got = JSON.stringify(shortened(text.toString('utf8', 0, MAX_FIELD_LENGTH), 200));
    const message = `Expected an answer with a \`prompt_id\`, got ${got}: the job cannot be followed`;
    return { output_paths: [], problem: { code: 'backend', message } };
  }

  clientAnswer(): undefined {
    return undefined;
  }

  async breakOff(): Promise<CapturedAnswer> {
    return { output_paths: [] };
  }
}
