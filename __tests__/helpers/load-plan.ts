import { answerWith, bigPng } from './scripted-backend.js';
import { type SeededRandom, seededRandom } from './seeded-random.js';

/** What the backend does with a request. */
export type BackendDeed =
  | 'answers'
  | 'fails with 500'
  | 'refuses with 422'
  | 'says HTML'
  | 'says rubbish'
  | 'makes nothing'
  | 'sends a truncated image'
  | 'cuts its answer'
  | 'hangs up';

/** What the client does. */
export type ClientDeed =
  | 'stays'
  | 'reads slowly'
  | 'leaves within its body'
  | 'leaves behind its body'
  | 'leaves at the head'
  | 'leaves within the answer';

/** One request of the script: it is known beforehand what everybody does, and what has to come of it. */
export interface PlannedRequest {
  /** It is known by this to the backend. */
  readonly number: number;
  /** It is known by this to the record: each request has an address of its own. */
  readonly ip: string;
  readonly body: Buffer;
  readonly client: ClientDeed;
  /** The client leaves by RST, or else by FIN. */
  readonly byReset: boolean;
  readonly backend: BackendDeed;
  readonly delayMs: number;
  /** The answer comes in so many pieces. */
  readonly pieces: number;
}

/** What the backend answers: made when it is asked for, and the same each time. */
export interface PlannedAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: Buffer;
  /** The images that are whole, by their place in the answer. */
  readonly images: ReadonlyMap<number, Buffer>;
}

const DEEDS: readonly (readonly [BackendDeed, number])[] = [
  ['answers', 72],
  ['fails with 500', 4],
  ['refuses with 422', 4],
  ['says HTML', 3],
  ['says rubbish', 3],
  ['makes nothing', 3],
  ['sends a truncated image', 4],
  ['cuts its answer', 4],
  ['hangs up', 3],
];

export function planRequests(count: number, seed: number): PlannedRequest[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, (_, number) => planRequest(number, random));
}

function planRequest(number: number, random: SeededRandom): PlannedRequest {
  const client = planClient(random);
  return {
    number,
    ip: `10.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`,
    body: planBody(number, random, client === 'leaves within its body'),
    client,
    byReset: random.chance(0.5),
    backend: weighted(DEEDS, random),
    delayMs: random.chance(0.15) ? random.integer(80, 400) : random.integer(0, 20),
    pieces: random.chance(0.2) ? random.integer(2, 6) : 1,
  };
}

function planClient(random: SeededRandom): ClientDeed {
  if (random.chance(0.72)) return 'stays';
  return random.pick([
    'reads slowly',
    'leaves within its body',
    'leaves behind its body',
    'leaves at the head',
    'leaves within the answer',
  ]);
}

function planBody(number: number, random: SeededRandom, isLarge: boolean): Buffer {
  if (random.chance(0.03))
    return Buffer.from(random.pick(['', '{"prompt":', '\0\x01rubbish', '[1,2', 'null']));
  const ballast = isLarge || random.chance(0.02) ? 'x'.repeat(random.integer(70_000, 1_500_000)) : '';
  return Buffer.from(JSON.stringify({ prompt: `request ${number}`, seed: number, ballast }));
}

export function planAnswer({ number, backend }: PlannedRequest, seed: number): PlannedAnswer {
  const random = seededRandom(seed + number);
  const json = 'application/json';
  switch (backend) {
    case 'fails with 500':
      return {
        status: 500,
        contentType: json,
        body: Buffer.from('{"error":"OutOfMemoryError"}'),
        images: new Map(),
      };
    case 'refuses with 422':
      return { status: 422, contentType: json, body: Buffer.from('{"detail":[]}'), images: new Map() };
    case 'says HTML':
      return {
        status: 200,
        contentType: 'text/html',
        body: Buffer.from('<html>Hello</html>'),
        images: new Map(),
      };
    case 'says rubbish':
      return { status: 200, contentType: json, body: Buffer.from('}{\0rubbish'), images: new Map() };
    case 'makes nothing':
      return { status: 200, contentType: json, body: answerWith([]), images: new Map() };
    default: {
      const sizes = Array.from({ length: random.integer(1, 3) }, () =>
        random.chance(0.02) ? random.integer(300_000, 1_500_000) : random.integer(100, 8_000),
      );
      const images = sizes.map((size) => seededPng(size, random));
      const truncated = backend === 'sends a truncated image' ? images.length - 1 : -1;
      const sent = images.map((image, n) => (n === truncated ? image.subarray(0, -20) : image));
      const whole = [...images.entries()].filter(([n]) => n !== truncated);
      return { status: 200, contentType: json, body: answerWith(sent), images: new Map(whole) };
    }
  }
}

/** So many random bytes are enough for all images. */
const noise = bigPng(2_000_000);

/** A PNG that the generator's next numbers make. */
function seededPng(sizeBytes: number, random: SeededRandom): Buffer {
  const png = bigPng(sizeBytes);
  const dataAt = 41;
  const from = random.integer(dataAt, noise.length - sizeBytes - 30);
  noise.copy(png, dataAt, from, from + sizeBytes);
  return png;
}

function weighted<T>(choices: readonly (readonly [T, number])[], random: SeededRandom): T {
  let left = random.integer(0, choices.reduce((sum, [, weight]) => sum + weight, 0) - 1);
  for (const [choice, weight] of choices) {
    left -= weight;
    if (left < 0) return choice;
  }
  throw new Error('Expected weights above zero');
}
