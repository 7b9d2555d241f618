import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const PAGE_BYTES = 4096;

/** A filesystem of its own in memory, that a test can fill to the last byte. */
export interface SmallDisk {
  readonly folder: string;
  /** Takes all the room there is, but for so many bytes. */
  fillUp(exceptBytes?: number): void;
  freeUp(): void;
  /** For all who have no file in it open for writing. */
  becomeReadOnly(): void;
  becomeWritable(): void;
  remove(): void;
}

/** True where it can be had: only root may mount, and only Linux has it. */
export const canMountSmallDisk = process.platform === 'linux' && process.getuid?.() === 0;

/** @param folder made where it is missing. */
export function mountSmallDisk(folder: string, sizeKb: number): SmallDisk {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeKb}k,mode=777`, 'tmpfs', folder]);
  const filler = join(folder, 'filler');
  const remount = (how: string) => execFileSync('mount', ['-o', `remount,${how}`, folder]);
  return {
    folder,
    fillUp(exceptBytes = 0) {
      const file = openSync(filler, 'w');
      const page = Buffer.alloc(PAGE_BYTES);
      let written = 0;
      try {
        for (;;) written += writeSync(file, page);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      } finally {
        fsyncSync(file);
        closeSync(file);
      }
      if (exceptBytes > 0)
        execFileSync('truncate', ['-s', String(Math.max(0, written - exceptBytes)), filler]);
    },
    freeUp: () => rmSync(filler),
    becomeReadOnly: () => remount('ro'),
    becomeWritable: () => remount('rw'),
    remove: () => execFileSync('umount', ['--lazy', folder]),
  };
}
