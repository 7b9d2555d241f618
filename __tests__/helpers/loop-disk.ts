import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { memoryFolder } from './temp-folder.js';

/** EXT4_IOC_SHUTDOWN with the flag NOLOGFLUSH: from now on nothing gets to the disk any more. */
const SHUT_DOWN =
  'open(my $folder, "<", $ARGV[0]) or die $!; my $flag = pack("L", 2); ioctl($folder, 0x8004587d, $flag) or die $!';

/** A real ext4 filesystem in a file, to do to it what nobody may do to a disk in use. */
export interface LoopDisk {
  readonly folder: string;
  /** Keeps what has been synced, and what has happened to be written by now; the rest is lost, as when the power fails. */
  cut(): void;
  /** Mounts it again as it is then. Whoever still has files open has them on the one that is gone. */
  comeBack(): void;
  /** Lets everybody wait who wants to write, for as long as it takes. */
  freeze(): void;
  thaw(): void;
  /** Makes it read-only as the kernel does when it finds an error: also for those who have files open. */
  becomeReadOnly(): void;
  remove(): void;
}

/** True where such a disk can be had: only root may mount, and only Linux has it. */
export const canMountLoopDisk = canMount();

/** @param sizeMb the file is sparse: it takes what is written. */
export async function makeLoopDisk(sizeMb: number): Promise<LoopDisk> {
  const home = mkdtempSync(join(memoryFolder, 'sd-job-tracker-disk-'));
  const file = join(home, 'ext4');
  const folder = mkdtempSync(join(home, 'mount-'));
  await writeFile(file, '');
  await truncate(file, sizeMb * 1024 * 1024);
  execFileSync('mkfs.ext4', ['-q', '-F', file]);
  const mount = () => {
    // A device of its own each time: one that others still hold open may be beyond repair.
    const device = execFileSync('losetup', ['--find', '--show', file]).toString().trim();
    execFileSync('mount', [device, folder]);
    // It is free as soon as nobody has it mounted.
    execFileSync('losetup', ['--detach', device]);
  };
  mount();
  return {
    folder,
    cut: () => execFileSync('perl', ['-e', SHUT_DOWN, folder]),
    comeBack() {
      execFileSync('umount', ['--lazy', folder]);
      mount();
    },
    freeze: () => execFileSync('fsfreeze', ['--freeze', folder]),
    thaw: () => execFileSync('fsfreeze', ['--unfreeze', folder]),
    becomeReadOnly: () => execFileSync('mount', ['-o', 'remount,abort', folder]),
    remove() {
      execFileSync('umount', ['--lazy', folder]);
      rmSync(home, { recursive: true });
    },
  };
}

function canMount(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  try {
    execFileSync('sh', ['-c', 'losetup --find && command -v mkfs.ext4 fsfreeze perl'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
