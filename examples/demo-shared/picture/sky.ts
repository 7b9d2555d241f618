import { type Colour, clamp, mix } from './colour.js';
import { abs, floor, hypot, max, min, round, sqrt } from './maths.js';
import type { Palette } from './palettes.js';
import type { Picture } from './png.js';
import { between, noisePlane } from './random.js';
import type { Scene } from './scene.js';

/** Fills the whole picture with the sky: its gradient, the sun or moon with its glow, and clouds. */
export function paintSky({ width, height, rgb }: Picture, scene: Scene): void {
  const { palette, diskX, diskY, diskRadius, horizon } = scene;
  const clouds = noisePlane(scene.random);
  const cover = between(scene.random, 0.5, 0.62);
  const [glowR, glowG, glowB] = palette.glow;
  const [diskR, diskG, diskB] = palette.disk;
  const [cloudR, cloudG, cloudB] = palette.cloud;
  const aspect = width / height;
  const softness = 1.2 / height;
  for (let y = 0, at = 0; y < height; y += 1) {
    const v = (y + 0.5) / height;
    const [skyR, skyG, skyB] = skyColour(palette, v / horizon);
    const dy = v - diskY;
    // clouds thin out towards the zenith and the horizon
    const cloudRow = max(0, 1 - abs(v / horizon - 0.62) * 2.2);
    for (let x = 0; x < width; x += 1, at += 3) {
      const u = (x + 0.5) / width;
      const dx = (u - diskX) * aspect;
      const distance = sqrt(dx * dx + dy * dy);
      const near = distance / (diskRadius * 3.4);
      const glow = 0.85 / (1 + near * near);
      let r = skyR + (glowR - skyR) * glow;
      let g = skyG + (glowG - skyG) * glow;
      let b = skyB + (glowB - skyB) * glow;
      const disk = clamp((diskRadius - distance) / softness + 0.5);
      r += (diskR - r) * disk;
      g += (diskG - g) * disk;
      b += (diskB - b) * disk;
      if (cloudRow > 0) {
        const cx = u * aspect * 2.6;
        const cy = v * 11;
        const density =
          clouds(cx, cy) * 0.55 + clouds(cx * 2.3 + 7, cy * 1.9) * 0.3 + clouds(cx * 5, cy * 3.7) * 0.15;
        const cloud = clamp((density - cover) * 3.4) * cloudRow * 0.7;
        r += (cloudR - r) * cloud;
        g += (cloudG - g) * cloud;
        b += (cloudB - b) * cloud;
      }
      rgb[at] = r;
      rgb[at + 1] = g;
      rgb[at + 2] = b;
    }
  }
}

/** Puts stars on the sky, fewer and fainter towards the horizon. */
export function paintStars(picture: Picture, scene: Scene): void {
  const { random, palette, horizon } = scene;
  const { width, height } = picture;
  const count = round(260 * palette.stars);
  for (let star = 0; star < count; star += 1) {
    const x = random() * width;
    const v = random() ** 1.4 * horizon;
    const brightness = random() ** 2.2 * (1 - v / horizon);
    const radius = max(0.7, (0.0011 + 0.0022 * brightness) * height);
    for (let py = floor(v * height - radius); py <= v * height + radius; py += 1) {
      for (let px = floor(x - radius); px <= x + radius; px += 1) {
        const distance = hypot(px + 0.5 - x, py + 0.5 - v * height);
        const light = clamp(1.15 - distance / radius) * (0.25 + 0.75 * brightness);
        blend(picture, px, py, [255, 253, 244], light);
      }
    }
  }
}

/** `v` from 0, the zenith, to 1, the horizon. */
function skyColour({ sky }: Palette, v: number): Colour {
  const place = min(0.999, v) * (sky.length - 1);
  const stop = floor(place);
  return mix(sky[stop] as Colour, sky[stop + 1] as Colour, place - stop);
}

function blend({ width, height, rgb }: Picture, x: number, y: number, colour: Colour, amount: number): void {
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const at = (y * width + x) * 3;
  for (let c = 0; c < 3; c += 1) {
    const behind = rgb[at + c] as number;
    rgb[at + c] = behind + ((colour[c] as number) - behind) * amount;
  }
}
