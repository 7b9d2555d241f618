import { LAYERS, paintHills, paintWater } from './ground.js';
import type { Picture } from './png.js';
import { chooseScene } from './scene.js';
import { paintSky, paintStars } from './sky.js';

/** Draws a landscape: the same one for the same prompt and seed, whatever the size. */
export function drawLandscape(prompt: string, seed: string, width: number, height: number): Picture {
  const picture: Picture = { width, height, rgb: Buffer.allocUnsafe(width * height * 3) };
  const scene = chooseScene(prompt, seed);
  paintSky(picture, scene);
  paintStars(picture, scene);
  for (let layer = 0; layer < LAYERS; layer += 1) paintHills(picture, scene, layer);
  paintWater(picture, scene);
  return picture;
}
