import { beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { Job } from '../../lib/job.js';
import { type Claim, Deliveries, type Delivery, identifyRequest } from '../../lib/jobs/deliveries.js';
import { createJobEvents, type JobEvents } from '../../lib/jobs/job-events.js';
import type { JobStore } from '../../lib/stores/job-store.js';
import { type CollectedLog, collectLog, makeJob } from '../helpers/job-records.js';

const traits = { caller: 'ann', method: 'POST', url: '/sdapi/v1/txt2img', bodyHash: 'h', key: undefined };
const plain = identifyRequest(traits);
const keyed = identifyRequest({ ...traits, key: 'k' });

let jobs: Map<string, Job>;
let events: JobEvents;
let delivered: string[];
let log: CollectedLog;
let deliveries: Deliveries;
let number = 0;

beforeEach(() => {
  jobs = new Map();
  events = createJobEvents();
  delivered = [];
  log = collectLog();
  deliveries = create();
});

function create(store: Partial<JobStore> = {}): Deliveries {
  return new Deliveries({
    store: {
      get: async (id: string) => jobs.get(id),
      async *walk() {
        yield [...jobs.values()];
      },
      ...store,
    } as JobStore,
    events,
    windowMs: 60_000,
    onDelivered: (id) => delivered.push(id),
    logger: log,
  });
}

function put(differences: Partial<Job> = {}): Job {
  number += 1;
  const job = makeJob(number, { ...plain, ...differences });
  jobs.set(job.id, job);
  return job;
}

function begin(differences: Partial<Job> = {}): { id: string; delivery: Delivery } {
  const job = put(differences);
  return { id: job.id, delivery: deliveries.begin(job) as Delivery };
}

function complete(id: string): void {
  const job = { ...(jobs.get(id) as Job), status: 'Completed' as const, finished_at: Date.now() / 1000 };
  jobs.set(id, job);
  events.emit('completed', job);
}

const idOf = (claim: Claim | 'mismatch' | undefined) => (typeof claim === 'object' ? claim.job.id : claim);

/** Whether nothing is known of the job any more. */
async function isForgotten(id: string): Promise<boolean> {
  let isKnown = false;
  void deliveries.ended(id);
  for (const identity of [plain, keyed]) {
    const claim = await deliveries.claim(identity);
    if (idOf(claim) === id) isKnown = true;
    if (claim === undefined) deliveries.giveUp(identity);
    else if (claim !== 'mismatch') claim.delivery.lost();
  }
  return !isKnown;
}

describe('an identity', () => {
  test('tells requests apart by every trait, and none by where one ends and the next begins', () => {
    const others = [
      { caller: 'bob' },
      { method: 'PUT' },
      { url: '/sdapi/v1/txt2img?a' },
      { bodyHash: 'i' },
      { caller: 'annPOST', method: '' },
    ].map((difference) => identifyRequest({ ...traits, ...difference }).fingerprint);
    expect(new Set([plain.fingerprint, ...others]).size).toBe(6);
  });

  test('holds the key only together with the caller', () => {
    expect(plain.idempotency).toBeUndefined();
    expect(identifyRequest({ ...traits, caller: 'bob', key: 'k' }).idempotency).not.toBe(keyed.idempotency);
    expect(identifyRequest({ ...traits, bodyHash: 'i', key: 'k' }).idempotency).toBe(keyed.idempotency);
    expect(identifyRequest({ ...traits, key: 'k' }).fingerprint).toBe(plain.fingerprint);
  });
});

describe('a delivery', () => {
  test('counts once, whichever way it went first', async () => {
    const { id, delivery } = begin();
    delivery.lost();
    delivery.done();
    delivery.lost();
    expect(delivered).toEqual([]);
    complete(id);
    const claim = (await deliveries.claim(plain)) as Claim;
    expect(claim.job.id).toBe(id);
    expect(await deliveries.claim(plain)).toBeUndefined();
    claim.delivery.done();
    claim.delivery.lost();
    expect(delivered).toEqual([id]);
    expect(await deliveries.claim(plain)).toBeUndefined();
  });

  test('that was lost can be claimed by one at a time, again and again', async () => {
    const { id, delivery } = begin();
    delivery.lost();
    for (let turn = 0; turn < 3; turn += 1) {
      const [one, two] = await Promise.all([deliveries.claim(plain), deliveries.claim(plain)]);
      expect([idOf(one), idOf(two)].sort()).toEqual([id, undefined]);
      (one as Claim).delivery.lost();
    }
  });

  test('that cannot be made is forgotten, and the next job is found', async () => {
    const [first, second] = [begin(), begin()];
    for (const { id, delivery } of [first, second]) {
      delivery.lost();
      complete(id);
    }
    const claim = (await deliveries.claim(plain)) as Claim;
    expect(claim.job.id).toBe(first.id);
    claim.delivery.unavailable();
    expect(idOf(await deliveries.claim(plain))).toBe(second.id);
  });

  test('is noted once, and not for a job that has gone', () => {
    const [kept, gone] = [begin(), begin()];
    events.emit('removed', jobs.get(gone.id) as Job);
    kept.delivery.done();
    gone.delivery.done();
    expect(delivered).toEqual([kept.id]);
  });

  test('is noted once also where a key fetches the answer again', async () => {
    const { id, delivery } = begin(keyed);
    complete(id);
    delivery.done();
    ((await deliveries.claim(keyed)) as Claim).delivery.done();
    expect(delivered).toEqual([id]);
  });

  test('that was a 202 abandons nothing: the job is known until it ends, whoever else comes and leaves', async () => {
    for (const identity of [plain, keyed]) {
      const { id, delivery } = begin(identity);
      delivery.done();
      const claim = await deliveries.claim(identity);
      if (typeof claim === 'object') claim.delivery.lost();
      expect(deliveries.isAbandoned(id)).toBe(false);
      let hasEnded = false;
      const ended = deliveries.ended(id).then(() => {
        hasEnded = true;
      });
      await new Promise((resolve) => setImmediate(resolve));
      expect(hasEnded).toBe(false);
      complete(id);
      await ended;
    }
  });

  const removed = (id: string) => events.emit('removed', jobs.get(id) as Job);
  const failed = (id: string) => events.emit('failed', jobs.get(id) as Job);

  test.each<[string, (id: string, delivery: Delivery) => unknown[]]>([
    ['delivered, then completed', (id, delivery) => [delivery.done(), complete(id)]],
    ['completed, then delivered', (id, delivery) => [complete(id), delivery.done()]],
    ['failed', (id, delivery) => [failed(id), delivery.lost()]],
    ['failed, and not on record', (id, delivery) => [deliveries.over(id, true), delivery.lost()]],
    ['delivered, but not on record', (id, delivery) => [delivery.done(), deliveries.over(id, false)]],
    ['removed', (id, delivery) => [complete(id), delivery.lost(), removed(id)]],
  ])('leaves nothing behind of a job that was %s', async (_name, end) => {
    const { id, delivery } = begin();
    const ended = deliveries.ended(id);
    end(id, delivery);
    await ended;
    expect(await isForgotten(id)).toBe(true);
    expect(deliveries.isAbandoned(id)).toBe(true);
  });
});

describe('a claim', () => {
  test.each<[string, Partial<Job>]>([
    ['has failed', { status: 'Failed' }],
    ['was interrupted while it ran', { disturbed_by: 'interrupt' }],
  ])('is never one to a job that %s, be it by a key', async (_name, differences) => {
    const { id, delivery } = begin(keyed);
    delivery.lost();
    jobs.set(id, { ...(jobs.get(id) as Job), ...differences });
    expect(await deliveries.claim(keyed)).toBeUndefined();
    deliveries.giveUp(keyed);
    expect(await deliveries.claim(plain)).toBeUndefined();
  });

  test('by a key leads to a job with this key alone, and a key’s job is found by nothing else', async () => {
    const [without, withKey] = [begin(), begin(keyed)];
    without.delivery.lost();
    withKey.delivery.lost();
    const claim = (await deliveries.claim(keyed)) as Claim;
    expect(claim.job.id).toBe(withKey.id);
    claim.delivery.lost();
    expect(idOf(await deliveries.claim(plain))).toBe(without.id);
    expect(await deliveries.claim(plain)).toBeUndefined();
    const other = identifyRequest({ ...traits, bodyHash: 'i', key: 'k' });
    expect(await deliveries.claim(other)).toBe('mismatch');
    expect(idOf(await deliveries.claim(keyed))).toBe(withKey.id);
  });

  test('by a key waits for a request that is about to get its job, or to get none', async () => {
    expect(await deliveries.claim(keyed)).toBeUndefined();
    const [second, third] = [deliveries.claim(keyed), deliveries.claim(keyed)];
    deliveries.giveUp(keyed);
    expect(await second).toBeUndefined();
    const { id } = begin(keyed);
    expect(idOf(await third)).toBe(id);
  });

  test('by a key still finds the newer job when the earlier one, that was spoilt, has gone', async () => {
    const spoilt = begin(keyed);
    jobs.set(spoilt.id, { ...(jobs.get(spoilt.id) as Job), disturbed_by: 'skip' });
    expect(await deliveries.claim(keyed)).toBeUndefined();
    const { id } = begin(keyed);
    events.emit('removed', jobs.get(spoilt.id) as Job);
    expect(idOf(await deliveries.claim(keyed))).toBe(id);
  });

  test('looks up no job whose client is still there', async () => {
    const get = jest.fn(async (id: string) => jobs.get(id));
    deliveries = create({ get });
    const { id, delivery } = begin();
    expect(await deliveries.claim(plain)).toBeUndefined();
    expect(get).not.toHaveBeenCalled();
    delivery.lost();
    expect(idOf(await deliveries.claim(plain))).toBe(id);
  });

  test('does not wait for a store that does not answer', async () => {
    jest.useFakeTimers();
    try {
      deliveries = create({ get: () => new Promise(() => {}) });
      begin().delivery.lost();
      const claim = deliveries.claim(plain);
      await jest.advanceTimersByTimeAsync(2_000);
      expect(await claim).toBeUndefined();
      expect(log.warnings.join()).toContain('does not answer');
    } finally {
      jest.useRealTimers();
    }
  });
});

describe('what an earlier process has left', () => {
  const seconds = () => Date.now() / 1000;

  test('is found where it was completed within the window, or is still to run', async () => {
    const old = put({ status: 'Completed', finished_at: seconds() - 61 });
    const failed = put({ status: 'Failed', finished_at: seconds() });
    const lost = put({ status: 'Completed', finished_at: seconds() - 59 });
    const done = put({ status: 'Completed', finished_at: seconds(), delivered: true });
    const waiting = put({ accepted: true });
    await deliveries.open();
    const found = [idOf(await deliveries.claim(plain)), idOf(await deliveries.claim(plain))];
    expect(found).toEqual([lost.id, waiting.id]);
    expect(found).not.toContain(old.id);
    expect(found).not.toContain(failed.id);
    expect(found).not.toContain(done.id);
    expect(await deliveries.claim(plain)).toBeUndefined();
  });

  test('holds no key of a job that has failed, and nothing of one whose window is over', async () => {
    put({ ...keyed, status: 'Failed', finished_at: seconds() });
    const idempotency = identifyRequest({ ...traits, key: 'old' }).idempotency as string;
    const old = put({ idempotency, status: 'Completed', finished_at: seconds() - 61, delivered: true });
    await deliveries.open();
    expect(deliveries.isAbandoned(old.id)).toBe(true);
    const other = identifyRequest({ ...traits, bodyHash: 'i', key: 'k' });
    expect(await deliveries.claim(other)).toBeUndefined();
  });

  test('is known once, however often it is learnt', async () => {
    put({ status: 'Completed', finished_at: seconds() });
    await deliveries.open();
    await deliveries.open();
    expect(await deliveries.claim(plain)).toBeDefined();
    expect(await deliveries.claim(plain)).toBeUndefined();
  });
});

test('who waits for a job that nobody knows waits for nothing', async () => {
  await deliveries.ended('Unknown1');
});
