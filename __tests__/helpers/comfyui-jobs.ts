import { join } from 'node:path';
import { writeSidecar } from '../../lib/images/answer-sidecar.js';
import { FileImageStore } from '../../lib/images/file-image-store.js';
import type { ComfyUIFile, Job } from '../../lib/job.js';
import { LowdbJobStore } from '../../lib/stores/lowdb-job-store.js';
import { collectingLogger } from './gateway.js';
import { makeJob } from './job-records.js';

/** A job that ComfyUI has ended; the number makes its ids and its times. */
export function makeComfyJob(number: number, differences: Partial<Job> = {}): Job {
  const job = makeJob(number, { backend: 'comfyui', path: '/prompt', status: 'Completed' });
  return {
    ...job,
    prompt_id: promptIdOf(number),
    ticket: `{"prompt_id": "${promptIdOf(number)}", "number": ${number}, "node_errors": {}}`,
    finished_at: job.timestamp + 0.5,
    bytes: 1_000,
    sidecar: `2026-11-22/${job.id}.json`,
    ...differences,
  };
}

export function promptIdOf(number: number): string {
  return `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`;
}

/** A history entry as ComfyUI writes it: with a seed of 64 bits, and floats as floats. */
export function entryText(promptId: string, files: readonly ComfyUIFile[] = []): string {
  const images = files.map(
    ({ filename, subfolder, type }) =>
      `{"filename": ${JSON.stringify(filename)}, "subfolder": ${JSON.stringify(subfolder)}, "type": "${type}"}`,
  );
  return (
    `{"prompt": [3, "${promptId}", {"3": {"inputs": {"seed": 18446744073709551615, "cfg": 8.0}, "class_type": ` +
    `"KSampler"}}, {"client_id": "c"}, ["9"]], "outputs": {"9": {"images": [${images.join(', ')}]}}, ` +
    '"status": {"status_str": "success", "completed": true, "messages": []}, "meta": {}}'
  );
}

/** What is kept of a job, to be put into a folder. */
export interface KeptComfyJob {
  readonly job: Job;
  /** Default: the job's own entry. `null`: its sidecar is not there. */
  readonly entry?: string | null;
  /** The bytes of its files, in their order. */
  readonly files?: readonly Buffer[];
}

/** Puts finished jobs into a folder, before a gateway opens it. */
export async function keepComfyJobs(dir: string, kept: readonly KeptComfyJob[]): Promise<void> {
  const logger = collectingLogger([]);
  const store = new LowdbJobStore({ folder: dir, logger });
  const images = new FileImageStore({ folder: join(dir, 'output'), logger });
  await store.open();
  await images.open();
  await Promise.all(
    kept.map(async ({ job, entry = entryText(job.prompt_id as string, job.comfyui_files), files = [] }) => {
      const output_paths: string[] = [];
      for (const [n, bytes] of files.entries()) {
        const writer = await images.create(`2026-11-22/${job.id}-${n}`);
        await writer.write(bytes);
        output_paths.push(await writer.finish('png'));
      }
      if (job.sidecar && entry !== null) {
        const text = Buffer.from(entry);
        const header = { id: job.id, status: 200, exact: false, images: [], members: {} };
        const once = (async function* () {
          yield text;
        })();
        await writeSidecar(images, `2026-11-22/${job.id}`, { ...header, text_bytes: text.length }, once);
      }
      await store.insert({ ...job, output_paths });
    }),
  );
  await store.close();
}
