export type ValueKind = 'object' | 'array' | 'string' | 'scalar';

/** What an `ObjectScanner` tells, in the order of the bytes. Offsets count bytes from the start of the input. */
export interface ObjectListener {
  /**
   * A top-level member's raw value begins at `start`. True: the strings of this array are wanted one by one. A member
   * whose name is longer than 1 KiB is not told; one that occurs twice is told twice.
   */
  memberStart?(name: string, start: number, kind: ValueKind): boolean | undefined;
  /** The raw value has ended before `end`. */
  memberEnd?(name: string, start: number, end: number): void;
  /** A string of a wanted array begins; all text up to its quote has been given. */
  elementStart?(): void;
  /** Raw bytes from between its quotes; `escaped` if a backslash is among them. A view of the chunk. */
  elementBytes?(bytes: Buffer, escaped: boolean): void;
  /** The string has ended. Never called where the input ends first. */
  elementEnd?(): void;
  /** All bytes but those of wanted strings, in order, also where the input is no JSON at all. A view of the chunk. */
  text?(bytes: Buffer): void;
}

export type ScanFailure = 'not-an-object' | 'ended-early' | 'malformed' | 'garbage-after-end';

/** `offset` is the byte at which the input stopped to be what was expected. */
export type ScanResult =
  | { readonly complete: true }
  | { readonly complete: false; readonly reason: ScanFailure; readonly offset: number };
