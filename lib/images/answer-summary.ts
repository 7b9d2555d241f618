import type { ScanResult } from '../json/object-listener.js';
import type { Base64Verdict } from './base64-decoder.js';

/** Bytes from `start` to `end`, `end` exclusive. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A string of the answer's top-level `images` array. */
export interface AnswerImage {
  /** Its place among these strings, from 0; elements that are no strings do not count. */
  readonly index: number;
  /** `truncated` also where the answer ended within the string. Only a `not-base64` string is no image at all. */
  readonly verdict: Base64Verdict;
  /** The bytes of text ahead of the hole that its base64 has left. */
  readonly textOffset: number;
  /** How many decoded bytes the sink was given. */
  readonly sizeBytes: number;
  /**
   * True if base64 of the decoded bytes, put into the hole, is what the answer had, byte for byte. A short string that
   * is not base64 stays in the text: with no bytes decoded, nothing is to be put there, and it is exact.
   */
  readonly exact: boolean;
  /** True if each slash of that base64 is to be written as `\/`. */
  readonly escapedSlashes: boolean;
}

/** What an answer was, known at its end. The text is the answer without the base64 of its images. */
export interface AnswerSummary {
  readonly images: readonly AnswerImage[];
  /** Whether there was a top-level member `images`, and whether (one of them, if there were several) was an array. */
  readonly imagesMember: 'none' | 'array' | 'other';
  /** Where the raw value of `parameters` is in the text; the last one of several. */
  readonly parameters?: ByteRange;
  /** Where the raw value of `info` is in the text; the last one of several. */
  readonly info?: ByteRange;
  readonly textBytes: number;
  /** Whether the answer was one whole JSON object, else why not. `offset` counts bytes of the answer. */
  readonly json: ScanResult;
}
