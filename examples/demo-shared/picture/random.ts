import { createHash } from 'node:crypto';
import { floor, imul } from './maths.js';

/** The next number from 0 to below 1. */
export type Random = () => number;

/** The same numbers for the same text, everywhere and always (mulberry32 behind a SHA-256). */
export function randomFrom(text: string): Random {
  let state = createHash('sha256').update(text).digest().readUInt32LE(0);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function between(random: Random, low: number, high: number): number {
  return low + (high - low) * random();
}

/** Smooth values between 0 and 1 along a line; `x` may be any number from 0. */
export function noiseLine(random: Random): (x: number) => number {
  const values = Float32Array.from({ length: 256 }, random);
  return (x) => {
    const cell = floor(x);
    const part = x - cell;
    const eased = part * part * (3 - 2 * part);
    const from = values[cell & 255] as number;
    return from + ((values[(cell + 1) & 255] as number) - from) * eased;
  };
}

/** Smooth values between 0 and 1 on a plane; `x` and `y` may be any numbers from 0. */
export function noisePlane(random: Random): (x: number, y: number) => number {
  const values = Float32Array.from({ length: 64 * 64 }, random);
  return (x, y) => {
    const column = floor(x);
    const row = floor(y);
    const partX = x - column;
    const partY = y - row;
    const easedX = partX * partX * (3 - 2 * partX);
    const easedY = partY * partY * (3 - 2 * partY);
    const top = (row & 63) * 64;
    const bottom = ((row + 1) & 63) * 64;
    const left = column & 63;
    const right = (column + 1) & 63;
    const a = values[top + left] as number;
    const b = values[bottom + left] as number;
    const upper = a + ((values[top + right] as number) - a) * easedX;
    const lower = b + ((values[bottom + right] as number) - b) * easedX;
    return upper + (lower - upper) * easedY;
  };
}
