import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Spool } from '../../lib/http/spool.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();

async function takeAll(spool: Spool): Promise<Buffer> {
  const chunks: Buffer[] = [];
  while (spool.sizeBytes > 0) {
    const chunk = await spool.next();
    if (chunk) chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

describe('Spool', () => {
  test('gives back what was pushed, in order, from memory and from the file', async () => {
    const spool = new Spool({ directory: await newFolder(), memoryBytes: 1000 });
    const pushed = Array.from({ length: 50 }, () => randomBytes(300));
    for (const chunk of pushed) spool.push(chunk);
    expect(spool.sizeBytes).toBe(15_000);
    expect(await takeAll(spool)).toEqual(Buffer.concat(pushed));
    expect(await spool.next()).toBeUndefined();
    await spool.close();
  });

  test('keeps the order however pushes and takes are mixed', async () => {
    const directory = await newFolder();
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.integer({ min: 1, max: 50 }),
            fc.integer({ min: 1, max: 70_000 }),
            fc.constant('take' as const),
          ),
        ),
        async (steps) => {
          const spool = new Spool({ directory, memoryBytes: 2000 });
          const pushed: Buffer[] = [];
          const taken: Buffer[] = [];
          for (const step of steps) {
            if (step === 'take') {
              const chunk = await spool.next();
              if (chunk) taken.push(chunk);
            } else {
              pushed.push(randomBytes(step));
              spool.push(pushed.at(-1) as Buffer);
            }
          }
          taken.push(await takeAll(spool));
          await spool.close();
          return Buffer.concat(taken).equals(Buffer.concat(pushed));
        },
      ),
      { numRuns: 200 },
    );
  });

  test('a million bytes that come one by one cost what a million bytes cost', async () => {
    const spool = new Spool({ directory: await newFolder(), memoryBytes: 300_000 });
    const bytes = randomBytes(1_000_000);
    for (let at = 0; at < bytes.length; at += 1) spool.push(bytes.subarray(at, at + 1));
    const chunks: Buffer[] = [];
    while (spool.sizeBytes > 0) {
      const chunk = await spool.next();
      if (chunk) chunks.push(chunk);
    }
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    expect(chunks.length).toBeLessThan(100);
    await spool.close();
  });

  test('leaves no file behind, not even while it is in use', async () => {
    const directory = await newFolder();
    const spool = new Spool({ directory, memoryBytes: 10 });
    spool.push(randomBytes(5000));
    const first = await spool.next();
    expect(first?.length).toBe(5000);
    expect(await readdir(directory)).toEqual([]);
    await spool.close();
  });

  test('what is pushed after it was closed is forgotten', async () => {
    const spool = new Spool({ directory: await newFolder() });
    await spool.close();
    await spool.close();
    spool.push(randomBytes(10));
    expect(spool.sizeBytes).toBe(0);
    expect(await spool.next()).toBeUndefined();
  });

  test('a disk that is full: nothing is lost, and the writer is told to wait and to go on', async () => {
    const directory = join(await newFolder(), 'full');
    await mkdir(directory);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', directory]);
    try {
      const spool = new Spool({ directory, memoryBytes: 10_000 });
      const accepting = new Promise<void>((resolve) => {
        spool.onAccepting = resolve;
      });
      const pushed = Array.from({ length: 300 }, () => randomBytes(1000));
      for (const chunk of pushed) spool.push(chunk);
      expect(spool.accepting).toBe(false);
      expect(await takeAll(spool)).toEqual(Buffer.concat(pushed));
      expect(spool.failure).toMatchObject({ code: 'ENOSPC' });
      await accepting;
      expect(spool.accepting).toBe(true);
      await spool.close();
    } finally {
      execFileSync('umount', [directory]);
    }
  });

  test('a folder that cannot be made: everything stays in memory', async () => {
    const file = join(await newFolder(), 'file');
    await writeFile(file, '');
    const spool = new Spool({ directory: join(file, 'spool'), memoryBytes: 10 });
    const pushed = randomBytes(1000);
    spool.push(pushed);
    spool.push(pushed);
    expect(await takeAll(spool)).toEqual(Buffer.concat([pushed, pushed]));
    expect(spool.failure).toBeDefined();
    await spool.close();
  });
});
