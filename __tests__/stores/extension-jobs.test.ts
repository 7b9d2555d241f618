import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from '@jest/globals';
import { makeJob } from '../helpers/job-records.js';
import { namesIn, readStore } from '../helpers/store-folders.js';
import { tempFolders } from '../helpers/temp-folder.js';

const tempFolder = tempFolders();
let folder: string;

beforeEach(async () => {
  folder = await tempFolder();
});

/** As Python's `json.dump(records, file, indent=2)` writes them. */
function writeAsExtension(records: unknown[]): string {
  const text = JSON.stringify(records, null, 2).replace(/[\u0080-\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  writeFileSync(join(folder, 'jobs.json'), text);
  return text;
}

const older = {
  id: 'aB3dE6gH',
  prompt: 'a caf\u00e9 in the rain',
  ip: '192.0.2.7',
  timestamp: 1_700_000_000,
  status: 'Completed',
  output_path: '/home/me/stable-diffusion-webui/outputs/txt2img-images/2023-11-14/00001-42.png',
};
const newer = {
  id: 'zY8xW6vU4t',
  prompt: '',
  ip: '::1',
  timestamp: 1_700_000_100,
  status: 'Failed',
  output_paths: ['/outputs/a.png', '/outputs/b.png'],
};

describe("the A1111 extension's jobs.json", () => {
  test('is carried over', async () => {
    const text = writeAsExtension([
      older,
      { ...older, id: 'noImage11', output_path: null, status: 'Pending' },
      newer,
    ]);
    const { jobs, log } = await readStore(folder);
    const { output_path, ...rest } = older;
    const common = { backend: 'a1111', path: '/sdapi/v1/txt2img' };
    expect(jobs).toEqual([
      { ...rest, ...common, output_paths: [output_path] },
      { ...rest, ...common, id: 'noImage11', status: 'Pending', output_paths: [] },
      { ...newer, ...common },
    ]);
    expect(log.warnings).toEqual([]);
    expect(log.infos).toEqual([
      expect.stringMatching(/^3 jobs of the A1111 extension are carried over from /),
    ]);
    expect(readFileSync(join(folder, 'jobs.json.before-sd-job-tracker'), 'utf8')).toBe(text);
    expect(readFileSync(join(folder, 'jobs.json.bak'), 'utf8')).toBe(text);
    const again = await readStore(folder);
    expect(again.jobs).toEqual(jobs);
    expect(again.log.infos).toEqual([]);
  });

  test('may have the newest job first', async () => {
    writeAsExtension([newer, older]);
    expect((await readStore(folder)).jobs.map(({ id }) => id)).toEqual([older.id, newer.id]);
  });

  test('may be on one line, or empty', async () => {
    writeFileSync(join(folder, 'jobs.json'), JSON.stringify([older]));
    expect((await readStore(folder)).jobs).toHaveLength(1);
    folder = await tempFolder();
    writeFileSync(join(folder, 'jobs.json'), '[]');
    const { jobs, log } = await readStore(folder);
    expect(jobs).toEqual([]);
    expect(log.warnings).toEqual([]);
  });

  test('is never taken for the backup a second time over the first', async () => {
    const text = writeAsExtension([older]);
    await readStore(folder);
    writeAsExtension([newer]);
    expect((await readStore(folder)).jobs.map(({ id }) => id)).toEqual([newer.id]);
    expect(readFileSync(join(folder, 'jobs.json.before-sd-job-tracker'), 'utf8')).toBe(text);
  });

  test('loses the records that make no sense, which is said, and is kept', async () => {
    const text = writeAsExtension([
      older,
      null,
      'text',
      [older],
      {},
      { ...newer, id: 'short' },
      { ...newer, id: '../../etc' },
      { ...newer, id: 12345678 },
      { ...newer, status: 'Done' },
      { ...newer, timestamp: 'yesterday' },
      { ...newer, prompt: { a: 1 } },
      { ...newer, output_paths: [1] },
      newer,
    ]);
    const { jobs, log } = await readStore(folder);
    expect(jobs.map(({ id }) => id)).toEqual([older.id, newer.id]);
    expect(log.warnings).toEqual([
      expect.stringMatching(/^11 records in .* make no sense and are left out\..*corrupt-/),
    ]);
    const [evidence] = namesIn(folder, 'jobs.json.corrupt-');
    expect(readFileSync(join(folder, evidence as string), 'utf8')).toBe(text);
    expect((await readStore(folder)).log.warnings).toEqual([]);
  });

  test.each(['{"jobs": []}', '[{"id": "aB3dE6gH",', '', 'null', '\u0000\u0000'])(
    'is moved aside where it is %j',
    async (text) => {
      writeFileSync(join(folder, 'jobs.json'), text);
      const { jobs, log } = await readStore(folder);
      expect(jobs).toEqual([]);
      expect(log.warnings).toHaveLength(1);
      const [evidence] = namesIn(folder, 'jobs.json.corrupt-');
      expect(readFileSync(join(folder, evidence as string), 'utf8')).toBe(text);
      expect(JSON.parse(readFileSync(join(folder, 'jobs.json'), 'utf8'))).toEqual([]);
    },
  );

  test('may have members that nobody knows, and keys named __proto__', async () => {
    const record = JSON.stringify({ ...newer, rating: 5 }).replace(
      '{',
      '{"__proto__":{"status":"Completed"},',
    );
    writeFileSync(join(folder, 'jobs.json'), `[${record}]`);
    const [job] = (await readStore(folder)).jobs;
    expect(job).toEqual({ ...newer, rating: 5, backend: 'a1111', path: '/sdapi/v1/txt2img' });
  });
});

test('a record of ours in a foreign file keeps its own fields', async () => {
  const job = makeJob(1, { backend: 'comfyui', path: '/prompt', sidecar: 'x.json' });
  writeFileSync(join(folder, 'jobs.json'), JSON.stringify([job]));
  expect((await readStore(folder)).jobs).toEqual([job]);
  expect(namesIn(folder, 'jobs.json.before')).toEqual([]);
});
