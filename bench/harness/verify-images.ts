import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Answer } from './answer.js';

/** Throws unless the folder holds every image of so many answers, byte for byte, and no other. */
export async function verifyImages(folder: string, answer: Answer, answers: number): Promise<void> {
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.png'));
  const expected = answers * answer.imageHashes.length;
  if (names.length !== expected) throw new Error(`Expected ${expected} images, found ${names.length}`);
  for (const name of names) {
    const n = Number(/-(\d+)\.png$/.exec(name)?.[1]);
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(folder, name), { highWaterMark: 1024 * 1024 }), hash);
    const found = hash.digest('hex');
    if (found !== answer.imageHashes[n]) throw new Error(`Expected image ${n} in ${name}, found ${found}`);
  }
}
