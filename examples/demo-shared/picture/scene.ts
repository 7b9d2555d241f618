import { floor } from './maths.js';
import { PALETTES, type Palette } from './palettes.js';
import { between, type Random, randomFrom } from './random.js';

/** What a landscape is made of; lengths are parts of the picture's height, x is a part of its width. */
export interface Scene {
  readonly palette: Palette;
  /** Whoever paints takes numbers from it, so the order of painting is part of the picture. */
  readonly random: Random;
  /** The middle of the sun or moon, and its radius. */
  readonly diskX: number;
  readonly diskY: number;
  readonly diskRadius: number;
  /** Where the ground meets the sky. */
  readonly horizon: number;
  /** Where water begins; 1 where there is none. */
  readonly shore: number;
}

/** The same scene for the same prompt and seed. Some words in the prompt choose the light, or ask for water. */
export function chooseScene(prompt: string, seed: string): Scene {
  const random = randomFrom(`${seed}\n${prompt}`);
  const drawn = PALETTES[floor(random() * PALETTES.length)] as Palette;
  const palette = PALETTES.find(({ words }) => words.test(prompt)) ?? drawn;
  const hasWater = random() < 0.5 || /sea|lake|water|ocean|river|beach/i.test(prompt);
  const horizon = between(random, 0.52, 0.6);
  return {
    palette,
    random,
    diskX: between(random, 0.2, 0.8),
    diskY: between(random, 0.2, horizon - 0.1),
    diskRadius: between(random, 0.045, 0.075),
    horizon,
    shore: hasWater ? between(random, 0.72, 0.78) : 1,
  };
}
