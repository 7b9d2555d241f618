import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, unlinkSync, watch } from 'node:fs';
import { chmod, mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { createServer, Server } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { acquireFolderLock } from '../../lib/stores/folder-lock.js';
import { collectLog } from '../helpers/job-records.js';
import { tempFolders } from '../helpers/temp-folder.js';

const tempFolder = tempFolders();
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
});

/** Starts a process that locks what it is told to. */
async function startChild(...args: string[]): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('../helpers/lock-child.ts', import.meta.url));
  const child = fork(script, args, { execArgv: ['--import', 'tsx'] });
  children.push(child);
  await once(child, 'message');
  return child;
}

async function lockIn(child: ChildProcess, folders: string[]): Promise<string[]> {
  const answer = once(child, 'message');
  child.send(folders);
  return (await answer)[0] as string[];
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** Leaves a socket in a folder that nobody listens at, as a killed process does. */
async function leaveDeadSocket(folder: string): Promise<void> {
  const server = createServer();
  server.listen(join(folder, 's'));
  await once(server, 'listening');
  await rename(join(folder, 's'), join(folder, 'jobs.json.lock'));
  server.close();
  await once(server, 'close');
}

const locked = (folder: string) => ({ code: 'FOLDER_LOCKED', message: expect.stringContaining(folder) });

describe('acquireFolderLock', () => {
  test('refuses the same process a second time, until the first lock is released', async () => {
    const folder = await tempFolder();
    const lock = await acquireFolderLock(folder);
    await expect(acquireFolderLock(folder)).rejects.toMatchObject(locked(folder));
    await lock.release();
    await expect(readdir(folder)).resolves.toEqual([]);
    const next = await acquireFolderLock(folder);
    // Whoever releases twice must not take away the lock of the one that came after.
    await lock.release();
    await expect(acquireFolderLock(folder)).rejects.toMatchObject(locked(folder));
    await next.release();
  });

  test('gives a folder to one of many that ask at once', async () => {
    const folder = await tempFolder();
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => acquireFolderLock(folder)));
    const won = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    expect(won).toHaveLength(1);
    for (const { value } of won) await value.release();
  });

  test('knows a folder by whatever path it is reached', async () => {
    const folder = await tempFolder();
    const lock = await acquireFolderLock(folder);
    await expect(
      acquireFolderLock(join(folder, '..', folder.split('/').at(-1) as string)),
    ).rejects.toMatchObject({
      code: 'FOLDER_LOCKED',
    });
    await lock.release();
  });

  test('refuses another process, and is free as soon as that has been killed', async () => {
    const folder = await tempFolder();
    const child = await startChild();
    await expect(lockIn(child, [folder])).resolves.toEqual(['locked']);
    await expect(acquireFolderLock(folder)).rejects.toMatchObject(locked(folder));
    await kill(child);
    await expect(readdir(folder)).resolves.toEqual(['jobs.json.lock']);
    const lock = await acquireFolderLock(folder);
    await lock.release();
  });

  test('refuses while the other process hangs', async () => {
    const folder = await tempFolder();
    const child = await startChild();
    await lockIn(child, [folder]);
    child.kill('SIGSTOP');
    await expect(acquireFolderLock(folder)).rejects.toMatchObject(locked(folder));
  });

  test('is not shared by the workers of a cluster', async () => {
    const folder = await tempFolder();
    const child = await startChild('cluster');
    await expect(lockIn(child, [folder])).resolves.toEqual(['locked', 'FOLDER_LOCKED']);
  });

  test('is given up where another process has taken the same dead socket over a moment later', async () => {
    const folder = await tempFolder();
    const path = join(folder, 'jobs.json.lock');
    await leaveDeadSocket(folder);
    const dead = lstatSync(path, { bigint: true }).ctimeNs;
    const rival = createServer((socket) => socket.end('another'));
    const watcher = watch(folder, () => {
      const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (rival.listening || stats === undefined || stats.ctimeNs === dead) return;
      unlinkSync(path);
      rival.listen(path);
    });
    await expect(acquireFolderLock(folder)).rejects.toMatchObject(locked(folder));
    watcher.close();
    expect(rival.listening).toBe(true);
    await expect(readdir(folder)).resolves.toEqual(['jobs.json.lock']);
    rival.close();
  });

  test('is taken over by exactly one of several processes that find it dead at the same moment', async () => {
    const rivals = await Promise.all([startChild(), startChild(), startChild()]);
    for (let round = 0; round < 4; round += 1) {
      const folders = await Promise.all(Array.from({ length: 15 }, tempFolder));
      await Promise.all(folders.map(leaveDeadSocket));
      const outcomes = await Promise.all(rivals.map((rival) => lockIn(rival, folders)));
      const winners = folders.map(
        (_, index) => outcomes.filter((outcome) => outcome[index] === 'locked').length,
      );
      expect(winners).toEqual(folders.map(() => 1));
      // Whoever lost has not taken the lock of the winner with it.
      for (const folder of folders) {
        await expect(acquireFolderLock(folder)).rejects.toMatchObject({ code: 'FOLDER_LOCKED' });
      }
    }
  });

  test('takes the place of a file that is no socket', async () => {
    const folder = await tempFolder();
    await writeFile(join(folder, 'jobs.json.lock'), '4711');
    const lock = await acquireFolderLock(folder);
    await expect(acquireFolderLock(folder)).rejects.toMatchObject({ code: 'FOLDER_LOCKED' });
    await lock.release();
  });

  test('works where the path is longer than a socket address may be', async () => {
    const folder = join(await tempFolder(), 'long'.repeat(30), 'longer'.repeat(30));
    await mkdir(folder, { recursive: true });
    const lock = await acquireFolderLock(folder);
    await expect(readdir(folder)).resolves.toEqual(['jobs.json.lock']);
    await expect(acquireFolderLock(folder)).rejects.toMatchObject({ code: 'FOLDER_LOCKED' });
    await lock.release();
    await leaveDeadSocketFar(folder);
    const next = await acquireFolderLock(folder);
    await next.release();
  });

  test('is done without, which is said, where the filesystem holds no sockets', async () => {
    const folder = await tempFolder();
    const refuse = function (this: Server): Server {
      const error = Object.assign(new Error('listen ENOTSUP'), { code: 'ENOTSUP', syscall: 'listen' });
      process.nextTick(() => this.emit('error', error));
      return this;
    };
    const listen = jest.spyOn(Server.prototype, 'listen').mockImplementation(refuse);
    const log = collectLog();
    const lock = await acquireFolderLock(folder, log);
    listen.mockRestore();
    expect(log.warnings).toEqual([
      expect.stringMatching(/cannot be locked, because its filesystem holds no sockets/),
    ]);
    await lock.release();
  });

  test('is free also where its socket cannot be removed, which is said', async () => {
    const folder = await tempFolder();
    await chmod(folder, 0o777);
    const log = collectLog();
    const lock = await acquireFolderLock(folder, log);
    await chmod(folder, 0o555);
    // Nothing is forbidden to root.
    const isRoot = process.getuid?.() === 0;
    if (isRoot) process.seteuid?.(65_534);
    try {
      await lock.release();
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
    expect(log.warnings).toEqual([expect.stringMatching(/jobs\.json\.lock is left behind: EACCES/)]);
    await chmod(folder, 0o777);
    const next = await acquireFolderLock(folder);
    await next.release();
  });

  test('says what is wrong with a folder that is not there', async () => {
    const folder = join(await tempFolder(), 'missing');
    await expect(acquireFolderLock(folder)).rejects.toMatchObject({
      code: 'FOLDER_UNUSABLE',
      message: expect.stringContaining(folder),
    });
  });
});

async function leaveDeadSocketFar(folder: string): Promise<void> {
  const near = await tempFolder();
  await leaveDeadSocket(near);
  await rename(join(near, 'jobs.json.lock'), join(folder, 'jobs.json.lock'));
}
