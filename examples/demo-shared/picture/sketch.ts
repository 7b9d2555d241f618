import { drawLandscape } from './landscape.js';
import { ceil, floor, max, round, sqrt } from './maths.js';
import type { Picture } from './png.js';
import { randomFrom } from './random.js';

const SCALE = 8;

/** A picture on its way from noise, `progress` 0, to what it will be, 1: an eighth of its width and height. */
export function drawSketch(prompt: string, seed: string, size: Size, progress: number): Picture {
  const { width, height } = { width: ceil(size.width / SCALE), height: ceil(size.height / SCALE) };
  const sketch = drawLandscape(prompt, seed, width, height);
  const random = randomFrom(`noise ${seed}\n${prompt}`);
  for (let at = 0; at < sketch.rgb.length; at += 1) {
    const clear = sketch.rgb[at] as number;
    sketch.rgb[at] = clear + (random() * 255 - clear) * (1 - progress);
  }
  return sketch;
}

/** Stretches a picture without smoothing. */
export function enlarge(picture: Picture, { width, height }: Size): Picture {
  const rgb = Buffer.allocUnsafe(width * height * 3);
  for (let y = 0, at = 0; y < height; y += 1) {
    const row = floor((y * picture.height) / height) * picture.width;
    for (let x = 0; x < width; x += 1, at += 3) {
      const from = (row + floor((x * picture.width) / width)) * 3;
      picture.rgb.copy(rgb, at, from, from + 3);
    }
  }
  return { width, height, rgb };
}

/** Pictures of one size side by side, as near to a square as whole rows allow; black where none is left. */
export function arrangeGrid(pictures: readonly Picture[]): Picture {
  const { width = 1, height = 1 } = pictures[0] ?? {};
  const rows = max(1, round(sqrt(pictures.length)));
  const columns = max(1, ceil(pictures.length / rows));
  const grid = { width: width * columns, height: height * rows };
  const rgb = Buffer.alloc(grid.width * grid.height * 3);
  for (const [index, picture] of pictures.entries()) {
    const top = floor(index / columns) * height;
    const left = (index % columns) * width;
    for (let y = 0; y < height; y += 1) {
      picture.rgb.copy(rgb, ((top + y) * grid.width + left) * 3, y * width * 3, (y + 1) * width * 3);
    }
  }
  return { ...grid, rgb };
}

export interface Size {
  readonly width: number;
  readonly height: number;
}
