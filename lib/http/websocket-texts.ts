/** Two bytes, and eight more where the length needs them (RFC 6455, section 5.2). A server masks nothing. */
const MAX_HEADER_BYTES = 10;
const MAX_CONTROL_BYTES = 125;

const CONTINUATION = 0x0;
const TEXT = 0x1;
const BINARY = 0x2;
const CLOSE = 0x8;
const PING = 0x9;
const PONG = 0xa;

export interface WebSocketTextsOptions {
  /** A longer text, in bytes, is passed over. */
  readonly maxTextBytes: number;
  readonly onText: (text: string) => void;
}

/**
 * Reads along what a server sends over a WebSocket, from the first byte after its 101 on, and tells the text messages. All
 * else is passed over as it comes: nothing is kept but the text message that is under way, and a copy of that.
 *
 * It only listens. What it cannot read, such as what an extension has made of a message, ends the reading and nothing else.
 */
export class WebSocketTexts {
  readonly #options: WebSocketTextsOptions;
  readonly #header = Buffer.alloc(MAX_HEADER_BYTES);
  #headerBytes = 0;
  /** Of the frame under way. */
  #opcode = CONTINUATION;
  #isFinal = true;
  #payloadLeft = 0;
  /** The message under way, whose frames others may come between. */
  #message: 'text' | 'other' | undefined;
  /** What has come of the message, with room for more; undefined where it is none that is told. */
  #text: Buffer | undefined;
  #sizeBytes = 0;
  #isOver = false;

  constructor(options: WebSocketTextsOptions) {
    this.#options = options;
  }

  /** True once nothing more will be told: the stream has ended, or is not to be understood. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Takes the next bytes, cut wherever they like. Throws only what `onText` throws. */
  write(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && !this.#isOver; ) {
      if (this.#payloadLeft === 0) {
        this.#header[this.#headerBytes] = chunk[at] as number;
        this.#headerBytes += 1;
        at += 1;
        if (this.#headerBytes < this.#headerLength) continue;
        this.#begin();
      } else {
        const end = Math.min(chunk.length, at + this.#payloadLeft);
        this.#take(chunk.subarray(at, end));
        this.#payloadLeft -= end - at;
        at = end;
      }
      if (this.#payloadLeft === 0 && !this.#isOver) this.#finish();
    }
  }

  get #headerLength(): number {
    const length = this.#headerBytes < 2 ? 0 : (this.#header[1] as number) & 0x7f;
    if (length === 126) return 4;
    return length === 127 ? 10 : 2;
  }

  /** The header is whole. */
  #begin(): void {
    const [first, second] = this.#header as unknown as readonly [number, number];
    this.#headerBytes = 0;
    this.#isFinal = (first & 0x80) !== 0;
    this.#opcode = first & 0x0f;
    this.#payloadLeft = this.#payloadLength(second & 0x7f);
    const isExtended = (first & 0x70) !== 0;
    const isMasked = (second & 0x80) !== 0;
    if (isExtended || isMasked || !Number.isSafeInteger(this.#payloadLeft) || !this.#isInOrder()) this.#end();
  }

  #payloadLength(short: number): number {
    if (short === 126) return this.#header.readUInt16BE(2);
    return short === 127 ? Number(this.#header.readBigUInt64BE(2)) : short;
  }

  /** Sees to what a frame of this kind means for the messages; false where there may be none here. */
  #isInOrder(): boolean {
    switch (this.#opcode) {
      case TEXT:
      case BINARY:
        if (this.#message) return false;
        this.#message = this.#opcode === TEXT ? 'text' : 'other';
        this.#text = this.#opcode === TEXT ? Buffer.alloc(0) : undefined;
        this.#sizeBytes = 0;
        return true;
      case CONTINUATION:
        return this.#message !== undefined;
      case CLOSE:
      case PING:
      case PONG:
        return this.#isFinal && this.#payloadLeft <= MAX_CONTROL_BYTES;
      default:
        return false;
    }
  }

  #take(payload: Buffer): void {
    if (this.#isControl || !this.#text) return;
    const { maxTextBytes } = this.#options;
    const sizeBytes = this.#sizeBytes + payload.length;
    if (sizeBytes > maxTextBytes) {
      this.#text = undefined;
      return;
    }
    if (sizeBytes > this.#text.length) {
      // However small the pieces, they are not copied over and over.
      const roomBytes = Math.min(Math.max(sizeBytes, 2 * this.#text.length), maxTextBytes);
      const roomier = Buffer.allocUnsafe(roomBytes);
      this.#text.copy(roomier, 0, 0, this.#sizeBytes);
      this.#text = roomier;
    }
    payload.copy(this.#text, this.#sizeBytes);
    this.#sizeBytes = sizeBytes;
  }

  /** The frame is whole. */
  #finish(): void {
    if (this.#opcode === CLOSE) this.#end();
    if (this.#isControl || !this.#isFinal) return;
    const text = this.#text;
    this.#message = undefined;
    this.#text = undefined;
    if (text) this.#options.onText(text.toString('utf8', 0, this.#sizeBytes));
  }

  get #isControl(): boolean {
    return this.#opcode >= CLOSE;
  }

  #end(): void {
    this.#isOver = true;
    this.#text = undefined;
  }
}
