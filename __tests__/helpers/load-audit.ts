import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Job } from '../../lib/index.js';
import { getJson } from './client.js';
import type { ClientReport } from './load-client.js';
import { type BackendDeed, type PlannedRequest, planAnswer } from './load-plan.js';

const PAGE = 1000;

/** The ends of a job that a backend's deed may lead to. */
const ENDS: Readonly<Record<BackendDeed, readonly string[]>> = {
  answers: ['Completed'],
  'fails with 500': ['Failed backend'],
  'refuses with 422': ['Failed backend'],
  'says HTML': ['Failed backend'],
  'says rubbish': ['Failed backend'],
  'makes nothing': ['Failed empty'],
  'sends a truncated image': ['Failed backend'],
  'cuts its answer': ['Failed backend', 'Failed unreachable'],
  'hangs up': ['Failed backend', 'Failed unreachable'],
};

export interface LoadAuditOptions {
  readonly url: string;
  readonly dir: string;
  readonly plan: readonly PlannedRequest[];
  readonly seed: number;
  readonly reports: readonly ClientReport[];
  /** How often each request has reached the backend. */
  readonly received: ReadonlyMap<number, number>;
  /** Requests during which the backend died. */
  readonly spoilt: ReadonlySet<number>;
}

export interface LoadVerdict {
  /** What is not as promised, in sentences. */
  readonly wrong: readonly string[];
  /** How many requests went on without an id and without a job, as they may where the store does not keep up. */
  readonly untracked: number;
}

/** Compares the records with what backend and clients have seen. */
export async function auditLoad(options: LoadAuditOptions): Promise<LoadVerdict> {
  const { url, plan, reports, received } = options;
  const wrong: string[] = [];
  let untracked = 0;
  const jobs = await allJobs(url);
  const byIp = new Map<string, Job[]>();
  for (const job of jobs) byIp.set(job.ip, [...(byIp.get(job.ip) ?? []), job]);
  for (const request of plan) {
    const own = byIp.get(request.ip) ?? [];
    const say = (what: string) =>
      void wrong.push(
        `Request ${request.number} (backend ${request.backend}, client ${request.client}): ${what}`,
      );
    const times = received.get(request.number) ?? 0;
    const report = reports[request.number] as ClientReport;
    if (times > 1) say(`reached the backend ${times} times`);
    if (own.length > 1) say(`has ${own.length} jobs`);
    if (times > 0 && own.length === 0) untracked += 1;
    if (request.client === 'leaves within its body' && (times > 0 || own.length > 0))
      say('never came whole, and reached the backend or has a job');
    if (report.id !== undefined && report.id !== own[0]?.id)
      say(`was given the id ${report.id}, and has ${own[0]?.id}`);
    if (report.body !== undefined && report.id === undefined && own.length > 0)
      say('was answered without its id');
    if (own[0]) await judgeJob(options, request, own[0], say);
    judgeAnswer(options, request, report, say);
  }
  await judgeFiles(options, jobs, wrong);
  return { wrong, untracked };
}

async function judgeJob(
  { received, spoilt, seed, dir }: LoadAuditOptions,
  request: PlannedRequest,
  job: Job,
  say: (what: string) => void,
): Promise<void> {
  const end = job.error ? `${job.status} ${job.error.code}` : job.status;
  const isSpoilt = spoilt.has(request.number) || !received.has(request.number);
  const broken = ['Failed unreachable', 'Failed backend', 'Failed cancelled'];
  if (!(ENDS[request.backend].includes(end) || (isSpoilt && broken.includes(end))))
    say(`ended as ${end}: ${job.error?.message}`);
  const { images } = planAnswer(request, seed);
  if (job.status === 'Completed' && job.output_paths.length !== images.size)
    say(`has ${job.output_paths.length} of ${images.size} images`);
  if (request.backend === 'sends a truncated image' && !isSpoilt && job.output_paths.length !== images.size)
    say(`has ${job.output_paths.length} of ${images.size} whole images`);
  for (const path of job.output_paths) {
    const expected = images.get(Number(/-(\d+)\.png$/.exec(path)?.[1]));
    const kept = await readFile(join(dir, 'output', path)).catch(() => undefined);
    if (!expected || !kept?.equals(expected)) say(`${path} is not what the backend sent`);
  }
}

function judgeAnswer(
  { received, spoilt, seed }: LoadAuditOptions,
  request: PlannedRequest,
  { status, body }: ClientReport,
  say: (what: string) => void,
): void {
  const mayBreak = spoilt.has(request.number) || !received.has(request.number);
  if (request.client !== 'stays' && request.client !== 'reads slowly') return;
  const { backend } = request;
  const planned = planAnswer(request, seed);
  const isWhole = backend !== 'hangs up' && backend !== 'cuts its answer';
  if (body === undefined) {
    // After an early head every failure is a connection that breaks.
    if (isWhole && planned.status === 200 && !mayBreak) say('had its connection broken');
  } else if (status === 200) {
    // White space keeps a connection alive until the answer comes.
    const expected = body.subarray(body.length - planned.body.length);
    const isExact =
      expected.equals(planned.body) &&
      /^\s*$/.test(body.toString('latin1', 0, body.length - expected.length));
    if (!isWhole || planned.status !== 200 || !isExact) say(`was answered 200 with ${body.subarray(0, 100)}`);
  } else if (isWhole && !mayBreak && (status !== planned.status || !body.equals(planned.body))) {
    say(`was answered ${status} with ${body.subarray(0, 200)}`);
  }
}

async function judgeFiles({ dir }: LoadAuditOptions, jobs: readonly Job[], wrong: string[]): Promise<void> {
  const images = new Set(jobs.flatMap(({ output_paths }) => output_paths));
  const ids = new Set(jobs.map(({ id }) => id));
  const entries = await readdir(join(dir, 'output'), { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (entry.isDirectory()) continue;
    const name = join(entry.parentPath, entry.name).slice(join(dir, 'output').length + 1);
    const isSidecar = ids.has(/\/(\w+)\.json$/.exec(name)?.[1] ?? '');
    if (!images.has(name) && !isSidecar) wrong.push(`output/${name} belongs to no job`);
  }
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
