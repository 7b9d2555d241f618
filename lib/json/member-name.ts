const LONGEST_BYTES = 1024;
/** Means itself in JSON. */
const PLAIN = /^[ !#-[\]-\uffff]*$/;

/** The name of an object's member, collected from passing chunks. */
export class MemberName {
  #pieces: Buffer[] = [];
  #sizeBytes = 0;

  /** Bytes between the quotes. Beyond 1 KiB nothing more is kept. */
  add(bytes: Buffer): void {
    this.#sizeBytes += bytes.length;
    if (this.#sizeBytes > LONGEST_BYTES) this.#pieces = [];
    else this.#pieces.push(Buffer.from(bytes));
  }

  /**
   * The unescaped name, and ready for the next one. `undefined` for a name of more than 1 KiB; throws a SyntaxError
   * where the bytes are no JSON string.
   *
   * @param last the bytes in front of the closing quote.
   */
  take(last: Buffer): string | undefined {
    const isOnePiece = this.#sizeBytes === 0;
    if (!isOnePiece) this.add(last);
    const isLong = (isOnePiece ? last.length : this.#sizeBytes) > LONGEST_BYTES;
    const raw = isLong ? undefined : (isOnePiece ? last : Buffer.concat(this.#pieces)).toString();
    this.#pieces = [];
    this.#sizeBytes = 0;
    return raw === undefined || PLAIN.test(raw) ? raw : JSON.parse(`"${raw}"`);
  }
}
