import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from '@jest/globals';
import { tempFolders } from './helpers/temp-folder.js';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '..');
const newFolder = tempFolders();

/** Less the compiler's settings for it. */
const pageFiles = readdirSync(join(root, 'lib', 'page')).filter((name) => !name.endsWith('.json'));

/** Lines that mount a tracker, call one of its routes, load its page and end by themselves. */
const program = `
  const app = express();
  const tracker = jobTracker({ dir: './kept' });
  app.use('/sd', tracker);
  const server = app.listen(0, '127.0.0.1', async () => {
    await tracker.ready;
    const answer = await fetch(\`http://127.0.0.1:\${server.address().port}/sd/sdapi/v1/jobs\`);
    console.log(answer.status, await answer.text());
    const page = \`http://127.0.0.1:\${server.address().port}/sd/job-tracker\`;
    console.log(await (await fetch(page)).text());
    for (const name of ${JSON.stringify(pageFiles.filter((name) => name !== 'index.html'))}) {
      const file = await fetch(page + '/' + name);
      if (!file.ok) console.log(name, file.status);
    }
    server.closeAllConnections();
    server.close();
    await tracker.close();
  });
`;
/** Had it told of a file that is missing, there would be more. */
const said = `200 []\n${readFileSync(join(root, 'lib', 'page', 'index.html'), 'utf8')}\n`;
const typed = `
  const options: JobTrackerOptions = { a1111: 'http://127.0.0.1:7860', headAfter: '100ms' };
  const tracker: JobTracker = jobTracker(options);
  express().use(tracker);
  tracker.events.on('completed', (job: Job) => console.log(job.id.toUpperCase(), job.error?.code));
  tracker.jobs.list({ status: 'Completed' }).then(({ jobs, total }) => console.log(jobs.length + total));
  // @ts-expect-error an unknown option
  jobTracker({ nonsense: true });
  // @ts-expect-error a duration without a unit
  jobTracker({ keepAlive: '15' });
`;

let project: string;

/** A project with the packed package in it, as npm would install it, and the dependencies that are here already. */
beforeAll(async () => {
  await run('npm', ['run', 'build'], { cwd: root });
  project = await newFolder();
  const modules = join(project, 'node_modules');
  await mkdir(join(modules, 'sd-job-tracker'), { recursive: true });
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', project], { cwd: root });
  const [tarball] = (await readdir(project)).filter((name) => name.endsWith('.tgz'));
  await run('tar', [
    '-xzf',
    join(project, tarball as string),
    '--strip-components=1',
    '-C',
    join(modules, 'sd-job-tracker'),
  ]);
  const { dependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  for (const name of ['express', ...Object.keys(dependencies)]) {
    await symlink(join(root, 'node_modules', name), join(modules, name));
  }
  // The types that such a project has of its own; ours must not need any others.
  await mkdir(join(modules, '@types'));
  for (const name of ['express', 'node']) {
    await symlink(join(root, 'node_modules', '@types', name), join(modules, '@types', name));
  }
}, 120_000);

test('holds what is needed, and nothing else', async () => {
  const files = await readdir(join(project, 'node_modules', 'sd-job-tracker'));
  expect(files.sort()).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'dist', 'package.json']);
});

test('works in an ESM project', async () => {
  const source = `import express from 'express'; import { jobTracker } from 'sd-job-tracker'; ${program}`;
  await writeFile(join(project, 'gateway.mjs'), source);
  expect((await run(process.execPath, ['gateway.mjs'], { cwd: project })).stdout).toBe(said);
}, 60_000);

test('works in a CommonJS project', async () => {
  const source = `const express = require('express'); const { jobTracker } = require('sd-job-tracker'); ${program}`;
  await writeFile(join(project, 'gateway.cjs'), source);
  expect((await run(process.execPath, ['gateway.cjs'], { cwd: project })).stdout).toBe(said);
}, 60_000);

test('has types for .mts and .cts files', async () => {
  const files = ['gateway.mts', 'gateway.cts'];
  const use = `import { jobTracker, type Job, type JobTracker, type JobTrackerOptions } from 'sd-job-tracker'; ${typed}`;
  await writeFile(join(project, 'gateway.mts'), `import express from 'express'; ${use}`);
  await writeFile(join(project, 'gateway.cts'), `import express = require('express'); ${use}`);
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--skipLibCheck'];
  const { stdout } = await run(process.execPath, [tsc, ...options, ...files], { cwd: project }).catch(
    (error) => error,
  );
  expect(stdout).toBe('');
}, 60_000);
