import { createHash } from 'node:crypto';
import { type BigIntStats, lstatSync, unlinkSync } from 'node:fs';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { JobTrackerError, messageOf, systemCodeOf } from '../errors.js';
import { consoleLogger, type Logger } from '../logger.js';
import { folderUnusable } from './folder-unusable.js';
import { bindLockSocket, holderOf, type LockSocket } from './lock-socket.js';

const LOCK_NAME = 'jobs.json.lock';
/** A socket that refuses is asked again after this time: its owner may be between bind and listen. */
const ASK_AGAIN_MS = 100;
/** So long after taking over a dead socket we look whether it is still ours. */
const SETTLE_MS = 150;
/** Filesystems that cannot hold a socket say so in one of these ways. */
const NO_SOCKETS = ['ENOTSUP', 'EOPNOTSUPP', 'EPERM', 'EINVAL', 'ENOSYS', 'EAFNOSUPPORT', 'EPROTONOSUPPORT'];

/** The right to write to a folder. */
export interface FolderLock {
  /** Lets others have the folder. May be called twice. */
  release(): Promise<void>;
}

/**
 * Takes a folder for this process, until it releases it or ends, however it ends. The lock is a socket that is bound in
 * the folder: unlike a file with a process id, it works among containers that share a volume. It does not reach across
 * machines that share a network filesystem. On Windows it is a named pipe.
 *
 * Rejects with `FOLDER_LOCKED` if another process, or this one, has the folder, and with `FOLDER_UNUSABLE` if the system
 * refuses. Where a folder cannot hold a socket, a warning is logged, and there is no lock.
 */
export async function acquireFolderLock(folder: string, logger: Logger = consoleLogger): Promise<FolderLock> {
  try {
    const lock =
      process.platform === 'win32' ? await acquirePipe(folder) : await acquireSocket(folder, logger);
    if (lock !== undefined) return lock;
  } catch (error) {
    if (!isUnsupported(error)) throw folderUnusable(folder, error);
    logger.warn(
      `${folder} cannot be locked, because its filesystem holds no sockets (${messageOf(error)}). ` +
        'Make sure that no second process uses it.',
    );
    return { release: async () => {} };
  }
  throw new JobTrackerError(
    'FOLDER_LOCKED',
    `${folder} is in use by another process, or by another tracker in this one. Stop that, or give each a folder of ` +
      `its own. (The lock is ${join(folder, LOCK_NAME)}; it frees itself when its process ends.)`,
  );
}

function isUnsupported(error: unknown): boolean {
  const isFromBind = (error as NodeJS.ErrnoException).syscall === 'listen';
  return isFromBind && NO_SOCKETS.includes(systemCodeOf(error) ?? '');
}

async function acquirePipe(folder: string): Promise<FolderLock | undefined> {
  const real = await fs.realpath(folder);
  const hash = createHash('sha256').update(real.toLowerCase()).digest('hex').slice(0, 32);
  try {
    const socket = await bindLockSocket(`\\\\.\\pipe\\sd-job-tracker-${hash}`);
    return { release: () => socket.close() };
  } catch (error) {
    // Windows answers EACCES for a pipe that another user has.
    if (['EADDRINUSE', 'EACCES'].includes(systemCodeOf(error) ?? '')) return undefined;
    throw error;
  }
}

async function acquireSocket(folder: string, logger: Logger): Promise<FolderLock | undefined> {
  const path = join(folder, LOCK_NAME);
  // The address of a socket may be about 100 bytes long, and a folder's path longer. And whoever closes a socket also
  // removes the name under which it was bound, even if another process has that by now; an alias that is gone it cannot.
  const alias = await makeAlias(folder);
  let taken: TakenSocket | undefined;
  try {
    taken = await takeSocket(path, join(alias, 'f', LOCK_NAME));
  } finally {
    await fs.rm(alias, { recursive: true, force: true });
  }
  if (taken === undefined) return undefined;
  const { socket, identity, isOurs } = taken;
  if (!isOurs) {
    await socket.close();
    return undefined;
  }
  return {
    release: async () => {
      try {
        if (identity !== undefined && identityOf(path) === identity) unlinkSync(path);
      } catch (error) {
        // Nobody is reached there any more, so that the next process takes it over.
        logger.warn(`${path} is left behind: ${messageOf(error)}`);
      }
      await socket.close();
    },
  };
}

/** A new folder with a link `f` to the one given in it. */
async function makeAlias(folder: string): Promise<string> {
  const real = await fs.realpath(folder);
  let alias: string;
  try {
    alias = await fs.mkdtemp(join(tmpdir(), 'job-'));
  } catch {
    // A container may have no place for temporary files; the folder itself does as long as its path is short.
    alias = await fs.mkdtemp(join(real, `${LOCK_NAME}-`));
  }
  await fs.symlink(real, join(alias, 'f'), 'dir');
  return alias;
}

interface TakenSocket {
  readonly socket: LockSocket;
  readonly identity: string | undefined;
  /** False where another process took the same dead socket over at the same time, and is the one that is reached. */
  readonly isOurs: boolean;
}

/** Undefined where a process has the socket. */
async function takeSocket(path: string, address: string): Promise<TakenSocket | undefined> {
  let isTakeover = false;
  for (;;) {
    const socket = await bind(address);
    if (socket !== undefined) {
      const identity = identityOf(path);
      return { socket, identity, isOurs: !isTakeover || (await isReached(socket, address)) };
    }
    const identity = identityOf(path);
    if (await isHeld(address)) return undefined;
    await delay(ASK_AGAIN_MS);
    if (await isHeld(address)) return undefined;
    // Nothing of ours happens between the look and the removal, so that it is the dead socket that goes.
    if (identity !== undefined && identityOf(path) === identity) unlinkSync(path);
    isTakeover = true;
  }
}

async function bind(address: string): Promise<LockSocket | undefined> {
  try {
    return await bindLockSocket(address);
  } catch (error) {
    if (systemCodeOf(error) === 'EADDRINUSE') return undefined;
    throw error;
  }
}

async function isHeld(address: string): Promise<boolean> {
  return typeof (await holderOf(address, false)) === 'object';
}

/** Looks, once every other process that found the same dead socket must have acted, whether it is us who answer. */
async function isReached(socket: LockSocket, address: string): Promise<boolean> {
  await delay(SETTLE_MS);
  const holder = await holderOf(address, true);
  return typeof holder === 'object' && holder.token === socket.token;
}

/** Tells one file from every other that has, or had, the same path; undefined where there is none. */
function identityOf(path: string): string | undefined {
  const stats: BigIntStats | undefined = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? undefined : `${stats.dev}:${stats.ino}:${stats.ctimeNs}`;
}
