import { messageOf } from '../errors.js';
import { Spool } from '../http/spool.js';
import { writeSidecar } from '../images/answer-sidecar.js';
import type { AnswerImage, AnswerSummary } from '../images/answer-summary.js';
import { Base64ImageReader } from '../images/base64-image-reader.js';
import { ImageIntake, type IntakeOutcome } from '../images/image-intake.js';
import type { JobError } from '../job.js';
import { memberEdits } from '../json/member-edits.js';
import { applyEdits, editedText, type TextEdit } from '../json/text-edits.js';
import { TopLevelMembers } from '../json/top-level-members.js';
import { keptPaths, problemOf, type SettledImage } from './automatic1111-verdict.js';
import type { AnswerCapture, CapturedAnswer, CaptureOptions } from './backend.js';

/** So many decoded bytes may wait for the disk before the backend has to. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** A disk that takes nothing for so long is given up: the answer goes on to the client all the same. */
const STALLED_AFTER_MS = 5_000;
/** SillyTavern sends its password for A1111 inside the body, and a fork may repeat it. */
const SECRET_PARAMETERS = ['auth', 'url'];
const STALLED: JobError = {
  code: 'not_stored',
  message: `The disk took nothing for ${STALLED_AFTER_MS / 1000} s`,
};

interface ReadImage {
  readonly image: AnswerImage;
  /** Resolves to undefined where the string was no base64. */
  readonly outcome: Promise<IntakeOutcome | undefined>;
}

/** Takes the images out of an answer of txt2img or img2img: `{"images": ["<base64>", ...], "parameters", "info"}`. */
export class Automatic1111Answer implements AnswerCapture {
  readonly #options: CaptureOptions;
  readonly #reader: Base64ImageReader;
  readonly #text: Spool;
  /** The text once more, where the client's answer is made of it. */
  readonly #heldText: Buffer[] = [];
  readonly #members = new TopLevelMembers();
  readonly #read: ReadImage[] = [];
  #intake: ImageIntake | undefined;
  #waitingBytes = 0;
  #accepting = true;
  #stallTimer: NodeJS.Timeout | undefined;
  #givenUp = false;
  #over = false;
  onAccepting: () => void = () => {};

  constructor(options: CaptureOptions) {
    this.#options = options;
    this.#text = new Spool({ directory: options.spoolDirectory, memoryBytes: 256 * 1024 });
    this.#reader = new Base64ImageReader({
      text: (bytes) => this.#takeText(bytes),
      imageStart: () => {},
      imageData: (index, bytes, release) => this.#takeImage(index, bytes, release),
      imageEnd: (_index, image) => this.#endImage(image),
    });
  }

  get accepting(): boolean {
    return this.#accepting;
  }

  write(chunk: Buffer): void {
    this.#reader.write(chunk);
  }

  async end(): Promise<CapturedAnswer> {
    const summary = this.#close();
    const images = await this.#settledImages();
    const output_paths = keptPaths(images);
    const problem = this.#givenUp ? STALLED : problemOf(summary, images, this.#options.status);
    // An answer without images has nothing to give again.
    if (output_paths.length === 0 || !summary.json.complete) {
      await this.#text.close();
      return { output_paths, ...(problem && { problem }) };
    }
    try {
      const sidecar = await this.#writeSidecar(summary, images);
      return { output_paths, sidecar, ...(problem && { problem }) };
    } catch (error) {
      const message = `The rest of the answer could not be kept: ${messageOf(error)}`;
      return { output_paths, problem: problem ?? { code: 'not_stored', message } };
    } finally {
      await this.#text.close();
    }
  }

  async breakOff(): Promise<CapturedAnswer> {
    if (!this.#over) this.#close();
    const output_paths = keptPaths(await this.#settledImages());
    await this.#text.close();
    return { output_paths };
  }

  clientAnswer(): Buffer | undefined {
    if (!this.#options.imagesUnwanted) return undefined;
    const text = Buffer.concat(this.#heldText);
    const images = this.#members.get('images');
    const parameters = this.#members.get('parameters');
    if (!this.#members.whole || !images) return text;
    const edits: TextEdit[] = [{ start: images.start, end: images.end, text: '[]' }];
    if (parameters?.text !== undefined) {
      const echoed = membersOf(parameters.text);
      if (echoed.get('send_images')) {
        for (const edit of memberEdits(echoed, { send_images: false })) {
          edits.push({ ...edit, start: parameters.start + edit.start, end: parameters.start + edit.end });
        }
      }
    }
    return editedText(
      text,
      edits.sort((a, b) => a.start - b.start),
    );
  }

  #close(): AnswerSummary {
    this.#over = true;
    const summary = this.#reader.end();
    this.#members.end();
    clearTimeout(this.#stallTimer);
    return summary;
  }

  #takeText(bytes: Buffer): void {
    // What came is a view of a chunk that is mostly images.
    const text = Buffer.from(bytes);
    this.#members.write(text);
    this.#text.push(text);
    if (this.#options.imagesUnwanted) this.#heldText.push(text);
  }

  #takeImage(index: number, bytes: Buffer, release: () => void): void {
    if (this.#givenUp) {
      release();
      return;
    }
    const { images, stem } = this.#options;
    this.#intake ??= new ImageIntake(images, `${stem}-${index}`, (sizeBytes) => this.#taken(sizeBytes));
    this.#waitingBytes += bytes.length;
    this.#intake.push(bytes, release);
    if (this.#waitingBytes > MAX_WAITING_BYTES) {
      this.#accepting = false;
      this.#stallTimer ??= setTimeout(() => this.#giveUp(), STALLED_AFTER_MS).unref();
    }
  }

  #taken(sizeBytes: number): void {
    this.#waitingBytes -= sizeBytes;
    this.#stallTimer?.refresh();
    if (this.#waitingBytes <= MAX_WAITING_BYTES / 2) this.#accept();
  }

  #accept(): void {
    if (this.#accepting) return;
    this.#accepting = true;
    clearTimeout(this.#stallTimer);
    this.#stallTimer = undefined;
    this.onAccepting();
  }

  #giveUp(): void {
    this.#givenUp = true;
    this.#accept();
  }

  #endImage(image: AnswerImage): void {
    const intake = this.#intake;
    this.#intake = undefined;
    const outcome =
      image.verdict === 'whole' && intake && !this.#givenUp ? intake.finish() : this.#drop(image, intake);
    this.#read.push({ image, outcome });
  }

  async #drop({ verdict }: AnswerImage, intake: ImageIntake | undefined): Promise<IntakeOutcome | undefined> {
    await intake?.discard();
    return verdict === 'not-base64' ? undefined : { kind: 'truncated' };
  }

  async #settledImages(): Promise<SettledImage[]> {
    return await Promise.all(
      this.#read.map(async ({ image, outcome }) => ({ image, outcome: await outcome })),
    );
  }

  async #writeSidecar(summary: AnswerSummary, settled: readonly SettledImage[]): Promise<string> {
    const { images: store, stem, jobId, status, contentType } = this.#options;
    const secrets = this.#secretEdits();
    const images = settled.flatMap(({ image, outcome }) => {
      if (outcome?.kind !== 'kept') return [];
      const escaped = image.escapedSlashes ? ({ escaped_slashes: true } as const) : {};
      return [{ path: outcome.path, at: image.textOffset, ...escaped }];
    });
    const cut = settled.filter(({ image }) => image.sizeBytes > 0).length;
    const { info, parameters } = summary;
    return await writeSidecar(
      store,
      stem,
      {
        id: jobId,
        status,
        ...(contentType === undefined ? {} : { content_type: contentType }),
        exact: secrets.length === 0 && images.length === cut && settled.every(({ image }) => image.exact),
        images,
        members: {
          ...(info && { info: [info.start, info.end] as const }),
          ...(parameters && { parameters: [parameters.start, parameters.end] as const }),
        },
        text_bytes: summary.textBytes,
      },
      applyEdits(this.#textChunks(), secrets),
    );
  }

  async *#textChunks(): AsyncGenerator<Buffer> {
    for (let chunk = await this.#text.next(); chunk; chunk = await this.#text.next()) yield chunk;
  }

  /** Secrets are blanked, with white space in their place, so that all offsets stay right. */
  #secretEdits(): TextEdit[] {
    const parameters = this.#members.get('parameters');
    if (parameters?.text === undefined) return [];
    const echoed = membersOf(parameters.text);
    return SECRET_PARAMETERS.flatMap((name) => {
      const secret = echoed.get(name);
      if (!secret || secret.end - secret.start <= 2) return [];
      const text = '""'.padEnd(secret.end - secret.start);
      return [{ start: parameters.start + secret.start, end: parameters.start + secret.end, text }];
    }).sort((a, b) => a.start - b.start);
  }
}

function membersOf(text: string): TopLevelMembers {
  const members = new TopLevelMembers();
  members.write(Buffer.from(text));
  members.end();
  return members;
}
