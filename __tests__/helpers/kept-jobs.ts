import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ImageStore } from '../../lib/images/image-store.js';
import type { Job } from '../../lib/job.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { collectingLogger, type Gateway, type GatewayOptions, startGateway } from './gateway.js';
import { makeJob } from './job-records.js';

export interface KeptJobs {
  readonly gateway: Gateway;
  readonly images: FileImageStore;
  /** How many files have been opened for reading, and how many of them have been closed again. */
  readonly files: { readonly opened: number; readonly closed: number };
  /** Puts a file into the output folder, as a generation does; resolves to its stored path. */
  keepFile(stem: string, extension: string, bytes: Uint8Array): Promise<string>;
  /** Puts a finished job into the record store. */
  keepJob(number: number, differences?: Partial<Job>): Promise<Job>;
}

/** A gateway whose stores the test can fill by itself, past any generation. */
export async function startWithKeptJobs(dir: string, options: GatewayOptions = {}): Promise<KeptJobs> {
  const logger = collectingLogger([]);
  const store = new LowdbJobStore({ folder: dir, logger });
  const images = new FileImageStore({ folder: join(dir, 'output'), logger });
  const files = countFiles(images);
  const gateway = await startGateway({ dir, store, images, ...options });
  return {
    gateway,
    images,
    files,
    keepFile: (stem, extension, bytes) => keepFile(images, stem, extension, bytes),
    async keepJob(number, differences = {}) {
      const job = makeJob(number, { status: 'Completed', ...differences });
      if (!(await store.insert(job))) throw new Error(`${job.id} is there already`);
      return job;
    },
  };
}

/** Counts what is really closed: a descriptor that was forgotten is gone too, as soon as the garbage is collected. */
function countFiles(store: ImageStore): KeptJobs['files'] {
  const files = { opened: 0, closed: 0 };
  const { read } = store;
  store.read = async (path) => {
    const file = await read.call(store, path);
    if (!file) return file;
    files.opened += 1;
    const { close } = file;
    let closing: Promise<void> | undefined;
    file.close = () => {
      closing ??= close.call(file).then(() => {
        files.closed += 1;
      });
      return closing;
    };
    return file;
  };
  return files;
}

async function keepFile(
  store: ImageStore,
  stem: string,
  extension: string,
  bytes: Uint8Array,
): Promise<string> {
  const writer = await store.create(stem);
  await writer.write(bytes);
  return writer.finish(extension);
}

/** The files below a folder that this process has open; none where the system does not tell. */
export function openFilesBelow(folder: string): string[] {
  const open: string[] = [];
  if (process.platform !== 'linux') return open;
  for (const descriptor of readdirSync('/proc/self/fd')) {
    try {
      const path = readlinkSync(join('/proc/self/fd', descriptor));
      if (path.startsWith(folder)) open.push(path);
    } catch {
      // It has been closed in the meantime, or was the list's own.
    }
  }
  return open;
}

/** Resolves once the condition holds; the test's own time limit is the only one. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}
