import type { AnswerImage } from '../images/answer-summary.js';
import { ImageIntake, type IntakeOutcome } from '../images/image-intake.js';
import type { ImageStore } from '../images/image-store.js';
import type { SettledImage } from './automatic1111-verdict.js';
import type { DiskWatch } from './disk-watch.js';

/** So many decoded bytes may wait for the disk before the backend has to. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** When the backend has to wait and the disk takes nothing for so long, the answer goes on without being kept. */
const STALLED_AFTER_MS = 5_000;

interface ReadImage {
  readonly image: AnswerImage;
  /** What `outcome` resolves to if the store takes it. */
  readonly hoped: IntakeOutcome | undefined;
  /** Resolves to undefined where the string was no base64. Never rejects. */
  readonly outcome: Promise<IntakeOutcome | undefined>;
  /** What `outcome` has resolved to so far. */
  settled: IntakeOutcome | undefined;
}

export interface Automatic1111ImagesOptions {
  readonly store: ImageStore;
  readonly stem: string;
  readonly disk: DiskWatch;
  /** Called when `accepting` turns true again. */
  readonly onAccepting: () => void;
}

/** The images of one answer on their way into the store, and what became of each. */
export class Automatic1111Images {
  readonly #options: Automatic1111ImagesOptions;
  readonly #read: ReadImage[] = [];
  #intake: ImageIntake | undefined;
  #waitingBytes = 0;
  #accepting = true;
  #stopExpecting: () => void = () => {};
  #abandoned = false;

  constructor(options: Automatic1111ImagesOptions) {
    this.#options = options;
    void options.disk.standstill.then(() => this.#accept());
  }

  /** False while too many bytes wait for the disk. */
  get accepting(): boolean {
    return this.#accepting;
  }

  /** Takes the next bytes of an image. */
  take(index: number, bytes: Buffer, release: () => void): void {
    const { store, stem, disk } = this.#options;
    if (disk.stillForMs !== undefined) {
      release();
      return;
    }
    this.#intake ??= new ImageIntake(store, `${stem}-${index}`, (sizeBytes) => this.#taken(sizeBytes));
    this.#waitingBytes += bytes.length;
    this.#intake.push(bytes, release);
    if (this.#accepting && this.#waitingBytes > MAX_WAITING_BYTES) {
      this.#accepting = false;
      this.#stopExpecting = disk.expect(STALLED_AFTER_MS);
    }
  }

  /** The image that was passing is over. */
  end(image: AnswerImage): void {
    const intake = this.#intake;
    this.#intake = undefined;
    const isKept = image.verdict === 'whole' && this.#options.disk.stillForMs === undefined;
    const hoped = intake && isKept ? intake.hoped : verdictOn(image);
    const outcome = intake && isKept ? intake.finish() : this.#drop(image, intake);
    const read: ReadImage = { image, hoped, outcome, settled: undefined };
    this.#read.push(read);
    void outcome.then((settled) => {
      this.#options.disk.moved();
      if (this.#abandoned) this.#removeLate(settled);
      else read.settled = settled;
    });
  }

  /** What becomes of the images if the store takes those that are to be kept. */
  hoped(): SettledImage[] {
    return this.#read.map(({ image, hoped }) => ({ image, outcome: hoped }));
  }

  /** Resolves when every image is in the store, or will never be. */
  async settled(): Promise<SettledImage[]> {
    return await Promise.all(
      this.#read.map(async ({ image, outcome }) => ({ image, outcome: await outcome })),
    );
  }

  /** What is known by now. An image that is kept after all is removed again: no job has it. */
  abandon(): SettledImage[] {
    this.#abandoned = true;
    return this.#read.map(({ image, settled }) => ({ image, outcome: settled }));
  }

  #taken(sizeBytes: number): void {
    this.#waitingBytes -= sizeBytes;
    this.#options.disk.moved();
    if (this.#waitingBytes <= MAX_WAITING_BYTES / 2) this.#accept();
  }

  #accept(): void {
    if (this.#accepting) return;
    this.#accepting = true;
    this.#stopExpecting();
    this.#options.onAccepting();
  }

  async #drop(image: AnswerImage, intake: ImageIntake | undefined): Promise<IntakeOutcome | undefined> {
    await intake?.discard();
    return verdictOn(image);
  }

  #removeLate(outcome: IntakeOutcome | undefined): void {
    if (outcome?.kind !== 'kept') return;
    // A file too many is all that can come of it.
    this.#options.store.remove(outcome.path).catch(() => {});
  }
}

/** What became of an image that is not kept. */
function verdictOn({ verdict }: AnswerImage): IntakeOutcome | undefined {
  return verdict === 'not-base64' ? undefined : { kind: 'truncated' };
}
