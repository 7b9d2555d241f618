import { max, min } from './maths.js';

/** Red, green and blue from 0 to 255. */
export type Colour = readonly [number, number, number];

/** From six hexadecimal digits. */
export function hex(colour: string): Colour {
  const value = Number.parseInt(colour, 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** `amount` from 0, all `from`, to 1, all `to`. */
export function mix(from: Colour, to: Colour, amount: number): Colour {
  return [
    from[0] + (to[0] - from[0]) * amount,
    from[1] + (to[1] - from[1]) * amount,
    from[2] + (to[2] - from[2]) * amount,
  ];
}

/** Between 0 and 1. */
export function clamp(value: number): number {
  return min(1, max(0, value));
}
