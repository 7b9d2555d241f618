import { clamp, mix } from './colour.js';
import { abs, ceil, floor, max, min, round, sqrt } from './maths.js';
import type { Picture } from './png.js';
import { between, noiseLine, noisePlane } from './random.js';
import type { Scene } from './scene.js';

/** How many hills stand one behind the other. */
export const LAYERS = 5;

/** Paints one layer of hills, 0 the farthest, with mist in its valleys and trees on those in front. */
export function paintHills(picture: Picture, scene: Scene, layer: number): void {
  const { width, height, rgb } = picture;
  const { palette, horizon, shore } = scene;
  const depth = layer / (LAYERS - 1); // 0 far, 1 in front
  const base = mix(palette.far, palette.near, depth ** 0.85);
  const mist = mix(base, palette.sky[3], 0.5 * (1 - depth));
  const ground = groundLine(scene, layer, width, height);
  const ridge = layer >= LAYERS - 2 ? withTrees(ground, scene, depth, height) : ground;
  const bottom = min(height, ceil(shore * height));
  const mistDepth = (0.11 + 0.1 * depth) * height;
  const top = max(0, floor(ridge.reduce((low, y) => min(low, y), horizon * height)) - 1);
  for (let y = top; y < bottom; y += 1) {
    for (let x = 0, at = y * width * 3; x < width; x += 1, at += 3) {
      const cover = clamp(y + 1 - (ridge[x] as number));
      if (cover === 0) continue;
      const fade = clamp((y + 0.5 - (ground[x] as number)) / mistDepth);
      for (let c = 0; c < 3; c += 1) {
        const from = base[c] as number;
        const colour = from + ((mist[c] as number) - from) * fade;
        const behind = rgb[at + c] as number;
        rgb[at + c] = behind + (colour - behind) * cover;
      }
    }
  }
}

/** Where a layer's ground begins in every column, in pixels from the top. */
function groundLine(scene: Scene, layer: number, width: number, height: number): Float32Array {
  const { random, horizon, shore } = scene;
  const depth = layer / (LAYERS - 1);
  const noise = noiseLine(random);
  const offset = random() * 100;
  const foot = horizon + ((shore === 1 ? 0.93 : shore) - horizon) * (0.06 + depth * 0.9);
  const relief = between(random, 0.16, 0.24) * (1 - depth * 0.62);
  const waves = between(random, 2, 3) + depth * 0.8;
  const roughness = 1 - depth * 0.75;
  const line = new Float32Array(width);
  for (let x = 0; x < width; x += 1) {
    const u = (x / width) * waves + offset;
    const hills = noise(u) * 0.62 + noise(u * 2.7 + 31) * 0.26;
    const rocks = (noise(u * 7.1 + 67) * 0.09 + noise(u * 17 + 11) * 0.035) * roughness;
    line[x] = (foot - (hills + rocks) * relief) * height;
  }
  return line;
}

/** The skyline with pines on it: each a narrow cone with branches that step outwards. */
function withTrees(ground: Float32Array, { random }: Scene, depth: number, height: number): Float32Array {
  const width = ground.length;
  const skyline = ground.slice();
  const groves = noiseLine(random);
  const count = round(between(random, 50, 90));
  for (let tree = 0; tree < count; tree += 1) {
    const u = random();
    const tall = between(random, 0.5, 1) * (0.035 + 0.05 * depth) * height;
    if (groves(u * 7) < 0.42) continue;
    const wide = tall * between(random, 0.2, 0.27);
    const middle = u * width;
    const foot = ground[min(width - 1, floor(middle))] as number;
    for (let x = max(0, floor(middle - wide)); x < min(width, middle + wide); x += 1) {
      const out = abs(x + 0.5 - middle) / wide;
      if (out >= 1) continue;
      const branches = (1 - ((out * 4) % 1)) * 0.12 * (1 - out);
      const top = foot + 0.06 * tall - tall * (1 - out ** 0.8 + branches * 0.6);
      skyline[x] = min(skyline[x] as number, top);
    }
  }
  return skyline;
}

/** Mirrors what stands above the shore, darker and in ripples that widen towards the viewer. */
export function paintWater({ width, height, rgb }: Picture, { palette, random, shore }: Scene): void {
  const start = ceil(shore * height);
  const ripples = noisePlane(random);
  const [deepR, deepG, deepB] = mix(palette.near, palette.sky[1], 0.35);
  for (let y = start; y < height; y += 1) {
    const away = (y - start) / (height - start); // 0 at the shore, 1 at the viewer
    const mirrored = start - 1 - (y - start) * 1.6;
    const deep = 0.16 + 0.42 * away;
    for (let x = 0, at = y * width * 3; x < width; x += 1, at += 3) {
      const u = x / width;
      const ripple = ripples(u * (10 - 5 * away), sqrt(away + 0.01) * 62) - 0.5;
      const shiftX = round(ripple * (0.006 + 0.03 * away) * width);
      const shiftY = ripple * (0.01 + 0.07 * away) * height;
      const fromX = min(width - 1, max(0, x + shiftX));
      const fromY = min(start - 1, max(0, round(mirrored + shiftY)));
      const from = (fromY * width + fromX) * 3;
      const light = 1 + ripple * 0.16;
      const r = rgb[from] as number;
      const g = rgb[from + 1] as number;
      const b = rgb[from + 2] as number;
      rgb[at] = min(255, (r + (deepR - r) * deep) * light);
      rgb[at + 1] = min(255, (g + (deepG - g) * deep) * light);
      rgb[at + 2] = min(255, (b + (deepB - b) * deep) * light);
    }
  }
}
