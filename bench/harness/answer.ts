import { createCipheriv, createHash } from 'node:crypto';

/** What a backend answers: so many images of so many bytes. */
export interface AnswerShape {
  readonly images: number;
  readonly imageBytes: number;
}

export interface Answer {
  /** The answer's bytes, in order. */
  readonly parts: readonly Buffer[];
  readonly sizeBytes: number;
  /** SHA-256 of each image, in hexadecimal. */
  readonly imageHashes: readonly string[];
  /** SHA-256 of the whole answer, in hexadecimal. */
  readonly hash: string;
}

/** So many images differ; a large answer repeats them, so that it does not have to be held in memory. */
const DISTINCT_IMAGES = 4;

/** An answer of A1111, the same in every process. Without an image it has about 1 KB. */
export function makeAnswer({ images, imageBytes }: AnswerShape): Answer {
  const distinct = Array.from({ length: Math.min(images, DISTINCT_IMAGES) }, (_, n) =>
    makeImage(imageBytes, n),
  );
  const texts = distinct.map((image) => Buffer.from(`"${image.toString('base64')}"`, 'latin1'));
  const hashes = distinct.map((image) => createHash('sha256').update(image).digest('hex'));
  const parts: Buffer[] = [Buffer.from('{"images":[')];
  for (let n = 0; n < images; n += 1) {
    if (n > 0) parts.push(Buffer.from(','));
    parts.push(texts[n % DISTINCT_IMAGES] as Buffer);
  }
  parts.push(Buffer.from(`],"parameters":${JSON.stringify(PARAMETERS)},"info":${JSON.stringify(INFO)}}`));
  const whole = createHash('sha256');
  for (const part of parts) whole.update(part);
  return {
    parts,
    sizeBytes: parts.reduce((sum, part) => sum + part.length, 0),
    imageHashes: Array.from({ length: images }, (_, n) => hashes[n % DISTINCT_IMAGES] as string),
    hash: whole.digest('hex'),
  };
}

/** A PNG, as far as its chunks go, with bytes in it that no compressor and no predictor knows. */
export function makeImage(sizeBytes: number, seed: number): Buffer {
  const image = Buffer.alloc(sizeBytes);
  const data = sizeBytes - 57;
  if (data < 0) throw new Error(`Expected an image of at least 57 bytes, got ${sizeBytes}`);
  image.write('89504e470d0a1a0a0000000d494844520000040000000400080200000000000000', 0, 'hex');
  image.writeUInt32BE(data, 33);
  image.write('IDAT', 37, 'latin1');
  const noise = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
  for (let at = 0; at < data; at += 1024 * 1024) {
    noise.update(Buffer.alloc(Math.min(1024 * 1024, data - at))).copy(image, 41 + at);
  }
  image.write('0000000049454e44ae426082', sizeBytes - 12, 'hex');
  return image;
}

const PARAMETERS = {
  prompt: 'a quiet bay at dusk, fishing boats, long exposure, film grain',
  negative_prompt: 'people, text, watermark',
  steps: 20,
  cfg_scale: 7.5,
  width: 1024,
  height: 1024,
  sampler_name: 'DPM++ 2M Karras',
  seed: 4_221_103_877,
};

const INFO = JSON.stringify({
  ...PARAMETERS,
  all_prompts: [PARAMETERS.prompt],
  all_seeds: [PARAMETERS.seed],
  sd_model_name: 'v1-5-pruned-emaonly',
  infotexts: [
    `${PARAMETERS.prompt}\nNegative prompt: ${PARAMETERS.negative_prompt}\nSteps: 20, Seed: 4221103877`,
  ],
});
