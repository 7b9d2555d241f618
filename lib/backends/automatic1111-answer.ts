import { messageOf } from '../errors.js';
import { Spool } from '../http/spool.js';
import { type WrittenSidecar, writeSidecar } from '../images/answer-sidecar.js';
import type { AnswerSummary } from '../images/answer-summary.js';
import { Base64ImageReader } from '../images/base64-image-reader.js';
import type { IntakeOutcome } from '../images/image-intake.js';
import { applyEdits, editedText, type TextEdit } from '../json/text-edits.js';
import { AnswerMembers } from './answer-members.js';
import { Automatic1111Images } from './automatic1111-images.js';
import { keptImages, problemOf, type SettledImage } from './automatic1111-verdict.js';
import type { AnswerCapture, CapturedAnswer, CaptureOptions } from './backend.js';
import { DiskWatch } from './disk-watch.js';

/** Once the answer is over, nobody waits for the disk but the record, and a busy disk may take its time to sync. */
const KEEPING_STALLED_AFTER_MS = 60_000;
/** SillyTavern sends its password for A1111 inside the body, and a fork may repeat it. */
const SECRET_PARAMETERS = ['auth', 'url'];

/** Takes the images out of an answer of txt2img or img2img: `{"images": ["<base64>", ...], "parameters", "info"}`. */
export class Automatic1111Answer implements AnswerCapture {
  readonly #options: CaptureOptions;
  readonly #reader: Base64ImageReader;
  readonly #disk = new DiskWatch();
  readonly #images: Automatic1111Images;
  readonly #text: Spool;
  /** The text once more, where the client's answer is made of it. */
  readonly #heldText: Buffer[] = [];
  readonly #members = new AnswerMembers();
  onAccepting: () => void = () => {};

  constructor(options: CaptureOptions) {
    this.#options = options;
    this.#text = new Spool({ directory: options.spoolDirectory, memoryBytes: 256 * 1024 });
    this.#images = new Automatic1111Images({
      store: options.images,
      stem: options.stem,
      disk: this.#disk,
      onAccepting: () => this.onAccepting(),
    });
    this.#reader = new Base64ImageReader({
      text: (bytes) => this.#takeText(bytes),
      imageStart: () => {},
      imageData: (index, bytes, release) => this.#images.take(index, bytes, release),
      imageEnd: (_index, image) => this.#images.end(image),
    });
  }

  get accepting(): boolean {
    return this.#images.accepting;
  }

  write(chunk: Buffer): void {
    this.#reader.write(chunk);
  }

  async end(): Promise<CapturedAnswer> {
    const summary = this.#reader.end();
    return await this.#unlessStill(() => this.#keep(summary));
  }

  async breakOff(): Promise<CapturedAnswer> {
    this.#reader.end();
    return await this.#unlessStill(async () => keptImages(await this.#images.settled()));
  }

  clientAnswer(): Buffer | undefined {
    if (!this.#options.imagesUnwanted) return undefined;
    return editedText(Buffer.concat(this.#heldText), this.#members.editsWithoutImages);
  }

  #takeText(bytes: Buffer): void {
    // What came is a view of a chunk that is mostly images.
    const text = Buffer.from(bytes);
    this.#members.write(text);
    this.#text.push(text);
    if (this.#options.imagesUnwanted) this.#heldText.push(text);
  }

  /** Waits for the disk as long as something moves there, and no longer: a job has to end. */
  async #unlessStill(keep: () => Promise<CapturedAnswer>): Promise<CapturedAnswer> {
    let kept: CapturedAnswer | undefined;
    if (this.#disk.stillForMs === undefined) {
      const stopExpecting = this.#disk.expect(KEEPING_STALLED_AFTER_MS);
      kept = await Promise.race([keep(), this.#disk.standstill]);
      stopExpecting();
    }
    // Its file has no name and is gone with the process at the latest.
    void this.#text.close();
    if (kept) return kept;
    const message = `The disk took nothing for ${(this.#disk.stillForMs ?? 0) / 1000} s`;
    return { ...keptImages(this.#images.abandon()), problem: { code: 'not_stored', message } };
  }

  /** Never rejects. */
  async #keep(summary: AnswerSummary): Promise<CapturedAnswer> {
    // The sidecar gets to the disk while the images do. It says what it says if all goes well, and is written anew if not.
    const hoped = this.#images.hoped();
    const text = hasSidecar(summary, hoped) ? this.#text.takeAll() : undefined;
    const hasty = text && this.#keepSidecar(summary, hoped, text);
    const images = await this.#images.settled();
    const isAsHoped = images.every(({ outcome }, i) => isSame(outcome, hoped[i]?.outcome));
    if (hasty && !isAsHoped) await this.#remove(hasty);
    const kept = keptImages(images);
    // Too late: the job has ended without them.
    if (this.#disk.stillForMs !== undefined) return kept;
    const problem = problemOf(summary, images, this.#options.status);
    if (!hasSidecar(summary, images)) return { ...kept, ...(problem && { problem }) };
    try {
      const { path, sizeBytes } = await (hasty && isAsHoped
        ? hasty
        : this.#keepSidecar(summary, images, text ?? this.#textChunks()));
      const bytes = (kept.bytes ?? 0) + sizeBytes;
      return { ...kept, sidecar: path, bytes, ...(problem && { problem }) };
    } catch (error) {
      const message = `The rest of the answer could not be kept: ${messageOf(error)}`;
      return { ...kept, problem: problem ?? { code: 'not_stored', message } };
    }
  }

  /** Writes a sidecar, which goes again where the job has to end without it. */
  #keepSidecar(
    summary: AnswerSummary,
    settled: readonly SettledImage[],
    text: AsyncIterable<Buffer> | Iterable<Buffer>,
  ): Promise<WrittenSidecar> {
    const writing = this.#writeSidecar(summary, settled, text);
    writing.catch(() => {});
    void this.#disk.standstill.then(() => this.#remove(writing));
    return writing;
  }

  /** A file too many is all that can come of it where that fails. */
  async #remove(sidecar: Promise<WrittenSidecar>): Promise<void> {
    await sidecar.then(({ path }) => this.#options.images.remove(path)).catch(() => {});
  }

  async #writeSidecar(
    summary: AnswerSummary,
    settled: readonly SettledImage[],
    text: AsyncIterable<Buffer> | Iterable<Buffer>,
  ): Promise<WrittenSidecar> {
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
      applyEdits(text, secrets),
    );
  }

  async *#textChunks(): AsyncGenerator<Buffer> {
    for (let chunk = await this.#text.next(); chunk; chunk = await this.#text.next()) yield chunk;
  }

  /** Secrets are blanked, with white space in their place, so that all offsets stay right. */
  #secretEdits(): TextEdit[] {
    return SECRET_PARAMETERS.flatMap((name) => {
      const secret = this.#members.parameter(name);
      if (!secret || secret.end - secret.start <= 2) return [];
      return [{ ...secret, text: '""'.padEnd(secret.end - secret.start) }];
    }).sort((a, b) => a.start - b.start);
  }
}

/** An answer without an image that is kept has nothing to give again. */
function hasSidecar({ json }: AnswerSummary, images: readonly SettledImage[]): boolean {
  return json.complete && images.some(({ outcome }) => outcome?.kind === 'kept');
}

function isSame(one: IntakeOutcome | undefined, other: IntakeOutcome | undefined): boolean {
  if (one?.kind !== 'kept' || other?.kind !== 'kept') return one?.kind === other?.kind;
  return one.path === other.path && one.sizeBytes === other.sizeBytes;
}
