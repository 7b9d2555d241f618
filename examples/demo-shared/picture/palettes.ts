import { type Colour, hex } from './colour.js';

/** The light of one hour of the day. */
export interface Palette {
  /** From the top of the picture to the horizon. */
  readonly sky: readonly [Colour, Colour, Colour, Colour];
  /** The disk of the sun, or of the moon. */
  readonly disk: Colour;
  readonly glow: Colour;
  readonly cloud: Colour;
  /** The hills at the horizon and those in front. */
  readonly far: Colour;
  readonly near: Colour;
  /** How many stars, from 0 to 1. */
  readonly stars: number;
  /** A word in the prompt asks for it. */
  readonly words: RegExp;
}

function sky(top: string, high: string, low: string, horizon: string): Palette['sky'] {
  return [hex(top), hex(high), hex(low), hex(horizon)];
}

export const PALETTES: readonly Palette[] = [
  {
    sky: sky('2b2f6b', '7a4a8c', 'e8826b', 'ffd08a'),
    disk: hex('fff1c9'),
    glow: hex('ffb066'),
    cloud: hex('ff9e8a'),
    far: hex('b0677d'),
    near: hex('241a3a'),
    stars: 0.15,
    words: /sunset|evening|autumn|fire|red|orange/i,
  },
  {
    sky: sky('3f6fb5', '7fa8d8', 'c9d9e6', 'fbe9d0'),
    disk: hex('fffdf0'),
    glow: hex('fff0c8'),
    cloud: hex('ffffff'),
    far: hex('9db7c4'),
    near: hex('1f4a44'),
    stars: 0,
    words: /day|noon|summer|spring|blue|garden|green/i,
  },
  {
    sky: sky('070b22', '12204a', '27427a', '5a78a8'),
    disk: hex('f4f1e0'),
    glow: hex('8fb0e0'),
    cloud: hex('3f5a8c'),
    far: hex('37558a'),
    near: hex('060a18'),
    stars: 1,
    words: /night|moon|star|space|dark|midnight|galaxy/i,
  },
  {
    sky: sky('4a5a94', '9a8fc0', 'eab6c0', 'ffe3c4'),
    disk: hex('fff6e0'),
    glow: hex('ffd2b0'),
    cloud: hex('ffc9c9'),
    far: hex('b79cb8'),
    near: hex('2c2f55'),
    stars: 0.08,
    words: /dawn|morning|sunrise|rose|pink|flower/i,
  },
  {
    sky: sky('0b1d33', '0f4a55', '2a8a7c', 'a9d8a0'),
    disk: hex('f2fbe6'),
    glow: hex('9fe8b8'),
    cloud: hex('4fb59a'),
    far: hex('3a7f80'),
    near: hex('06181f'),
    stars: 0.8,
    words: /aurora|north|ocean|underwater|emerald|magic/i,
  },
  {
    sky: sky('6f8fae', 'a6bccd', 'd5dee4', 'f2f1ec'),
    disk: hex('ffffff'),
    glow: hex('fff8ea'),
    cloud: hex('f7f9fb'),
    far: hex('b9c8d3'),
    near: hex('34495c'),
    stars: 0,
    words: /snow|winter|mist|fog|ice|white|cloud/i,
  },
  {
    sky: sky('241036', '57215c', 'b03a6b', 'ff8f6b'),
    disk: hex('ffe2b8'),
    glow: hex('ff6f7a'),
    cloud: hex('d9527a'),
    far: hex('7f2f63'),
    near: hex('150a24'),
    stars: 0.45,
    words: /dusk|purple|violet|neon|city|cyberpunk|twilight/i,
  },
];
