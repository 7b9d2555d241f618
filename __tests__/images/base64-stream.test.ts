import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { base64Length, streamBase64 } from '../../lib/images/base64-stream.js';
import { KeptFile } from '../../lib/images/kept-file.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

async function newFile(bytes: Buffer): Promise<{ path: string; file: KeptFile }> {
  const path = join(await newFolder(), 'file');
  await writeFile(path, bytes);
  return { path, file: (await KeptFile.open(path)) as KeptFile };
}

const bytesOf = (sizeBytes: number) =>
  Buffer.from(Array.from({ length: sizeBytes }, (_, index) => 255 - (index % 199)));

describe('streamBase64', () => {
  test.each([0, 1, 2, 3, 48 * 1024 - 1, 48 * 1024, 48 * 1024 + 1, 200_000])(
    'encodes %p bytes',
    async (sizeBytes) => {
      const bytes = bytesOf(sizeBytes);
      const { file } = await newFile(bytes);
      const pieces: Buffer[] = [];
      for await (const piece of streamBase64(file)) pieces.push(piece);
      expect(Buffer.concat(pieces).toString()).toBe(bytes.toString('base64'));
      expect(Buffer.concat(pieces)).toHaveLength(base64Length(sizeBytes));
      expect(pieces.every(({ length }) => length > 0 && length <= 64 * 1024)).toBe(true);
      await file.close();
    },
  );

  test('escapes every slash on request', async () => {
    const bytes = bytesOf(100_000);
    const { file } = await newFile(bytes);
    let text = '';
    for await (const piece of streamBase64(file, { escapedSlashes: true })) text += piece.toString();
    expect(text).toContain('\\/');
    expect(text).toBe(bytes.toString('base64').replaceAll('/', '\\/'));
    await file.close();
  });

  test('fails rather than to give less than was announced', async () => {
    const { path, file } = await newFile(bytesOf(100_000));
    await truncate(path, 60_000);
    const read = async () => {
      for await (const piece of streamBase64(file)) void piece;
    };
    await expect(read()).rejects.toThrow('Expected 100000 bytes in a kept file, found 60000');
    await file.close();
  });
});
