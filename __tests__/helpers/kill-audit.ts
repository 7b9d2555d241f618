import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Job } from '../../lib/index.js';
import { call, getJson } from './client.js';
import { hashOf, type KillLedger, type LedgerEntry } from './kill-ledger.js';

type ShownJob = Job & { readonly images: readonly string[]; readonly info?: string };

const AT_ONCE = 8;
const PAGE = 1000;
/** What a gateway that is idle may have in its folder. */
const EXPECTED_NAMES =
  /^(jobs\.json(\.tmp|\.bak|\.lock|\.journal(\.\d+(\.bak)?)?)?|config\.json|last-sweep\.json|output|requests|spool)$/;

/** Compares what a gateway that has been started again keeps with what its clients and its backend have seen. */
export class KillAudit {
  readonly #ledger: KillLedger;
  readonly #dir: string;
  readonly #tornNames: RegExp | undefined;
  /** Jobs that have been looked at one by one, and the files that are theirs. */
  readonly #known = new Map<string, readonly string[]>();
  /** What is wrong stays so: it is said once. */
  readonly #said = new Set<string>();
  readonly statuses = new Map<string, number>();

  constructor(ledger: KillLedger, dir: string, tornNames: RegExp | undefined) {
    this.#ledger = ledger;
    this.#dir = dir;
    this.#tornNames = tornNames;
  }

  /** @param everything also reads every file of the earlier lives once more. */
  async run(url: string, life: string, everything = false): Promise<void> {
    const say = (what: string) => {
      if (this.#said.has(what)) return;
      this.#said.add(what);
      this.#ledger.violations.push(`After life ${life}: ${what}`);
    };
    await this.#acceptedJobsEnded(url, say);
    const jobs = await allJobs(url);
    const byId = new Map(jobs.map((job) => [job.id, job]));
    const byPrompt = new Map<string, Job>();
    for (const job of jobs) {
      if (byPrompt.has(job.prompt)) say(`${job.prompt} has two jobs`);
      byPrompt.set(job.prompt, job);
      if (!this.#ledger.entries.has(job.prompt)) say(`nobody has asked for job ${job.id} "${job.prompt}"`);
    }
    for (const { id, prompt, handedOn } of this.#ledger.entries.values()) {
      if (id !== undefined && byId.get(id)?.prompt !== prompt) say(`job ${id} of ${prompt} is lost`);
      if (handedOn > 1) say(`${prompt} was handed to the backend ${handedOn} times`);
    }
    await inTurns(
      jobs.filter(({ id }) => !this.#known.has(id)),
      (job) => this.#lookAt(url, job, say),
    );
    await this.#lookAtFiles(jobs, say);
    if (everything) await inTurns(jobs, (job) => this.#readAgain(job, say));
    this.statuses.clear();
    for (const { status, error } of jobs) {
      const end = error ? `${status} ${error.code}` : status;
      this.statuses.set(end, (this.statuses.get(end) ?? 0) + 1);
    }
  }

  /** Only a job that was accepted with 202 may run in this life. */
  async #acceptedJobsEnded(url: string, say: (what: string) => void): Promise<void> {
    const deadline = performance.now() + 20_000;
    for (const status of ['Pending', 'Processing']) {
      for (;;) {
        const left = await getJson<Job[]>(`${url}/sdapi/v1/jobs?status=${status}&limit=${PAGE}`);
        const wrong = left.filter(({ prompt }) => !this.#ledger.entries.get(prompt)?.isAsync);
        for (const { id } of wrong) say(`job ${id} is ${status} for ever`);
        if (wrong.length === left.length) break;
        if (performance.now() > deadline) {
          say(`${left.length} accepted job(s) do not end`);
          break;
        }
      }
    }
  }

  async #lookAt(url: string, { id }: Job, say: (what: string) => void): Promise<void> {
    const { status, body } = await call(`${url}/sdapi/v1/job/${id}`).answer;
    if (status !== 200) {
      say(`job ${id} is listed, and answered with ${status}`);
      return;
    }
    const job = JSON.parse(body.toString()) as ShownJob;
    this.#known.set(id, [...job.output_paths, ...(job.info === undefined ? [] : [sidecarOf(job)])]);
    const entry = this.#ledger.entries.get(job.prompt);
    if (!entry) return;
    const images = job.images.map((image) => hashOf(Buffer.from(image, 'base64')));
    if (images.length !== job.output_paths.length) say(`job ${id} lacks images that it names`);
    expectImages(entry, job, images, say);
    if (entry.surelyComplete && job.status !== 'Completed')
      say(`job ${id} is ${job.status} (${job.error?.code}), and its client has the whole answer`);
    if (job.status === 'Failed' && job.error?.code !== 'interrupted')
      say(`job ${id} is Failed for no reason: ${job.error?.message}`);
    if (job.finished_at === undefined) say(`job ${id} has no end`);
  }

  async #readAgain(job: Job, say: (what: string) => void): Promise<void> {
    const entry = this.#ledger.entries.get(job.prompt);
    if (!entry) return;
    const images = job.output_paths.map(async (path) =>
      hashOf(await readFile(join(this.#dir, 'output', path))),
    );
    expectImages(entry, job, await Promise.all(images), say);
  }

  async #lookAtFiles(jobs: readonly Job[], say: (what: string) => void): Promise<void> {
    const kept = new Set(jobs.flatMap(({ id }) => this.#known.get(id) ?? []));
    for (const name of await filesBelow(join(this.#dir, 'output')))
      if (!kept.has(name)) say(`output/${name} belongs to no job`);
    for (const name of await filesBelow(join(this.#dir, 'spool'))) say(`spool/${name} is left`);
    const waiting = new Set(
      jobs.filter(({ status }) => status !== 'Completed').map(({ id }) => `${id}.request`),
    );
    for (const name of await filesBelow(join(this.#dir, 'requests')))
      if (!waiting.has(name)) say(`requests/${name} is left`);
    for (const name of await readdir(this.#dir))
      if (!EXPECTED_NAMES.test(name) && !this.#tornNames?.test(name)) say(`${name} is left`);
  }
}

function expectImages(
  entry: LedgerEntry,
  job: Job,
  images: readonly string[],
  say: (what: string) => void,
): void {
  if (job.status === 'Completed' && images.length !== entry.images.length)
    say(`job ${job.id} is Completed with ${images.length} of ${entry.images.length} images`);
  for (const [n, image] of images.entries()) {
    // Of a job that was interrupted any may be there; its name tells which one it is.
    const made = Number(/-(\d+)\.\w+$/.exec(job.output_paths[n] ?? '')?.[1]);
    if (entry.images[made] !== image) say(`image ${n} of job ${job.id} is not what the backend made`);
  }
}

function sidecarOf({ id, timestamp }: Job): string {
  return `${new Date(timestamp * 1000).toISOString().slice(0, 10)}/${id}.json`;
}

async function allJobs(url: string): Promise<Job[]> {
  const jobs: Job[] = [];
  for (;;) {
    const before = jobs.length > 0 ? `&before=${jobs.at(-1)?.id}` : '';
    const page = await getJson<Job[]>(`${url}/sdapi/v1/jobs?limit=${PAGE}${before}`);
    jobs.push(...page);
    if (page.length < PAGE) return jobs;
  }
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

async function inTurns<T>(values: readonly T[], work: (value: T) => Promise<void>): Promise<void> {
  const left = [...values];
  const worker = async () => {
    for (let value = left.pop(); value !== undefined; value = left.pop()) await work(value);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
