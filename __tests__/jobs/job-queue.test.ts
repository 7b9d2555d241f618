import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { JobQueue, type QueueTicket } from '../../lib/jobs/job-queue.js';

/** Enters a job and notes in `order` when it is let in. */
function enter(queue: JobQueue, id: string, order: string[] = []): QueueTicket {
  const ticket = queue.enter(id);
  void ticket.granted.then(() => order.push(id));
  return ticket;
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a queue with one slot', () => {
  test('lets the first one in at once, and the others one after the other, in their order', async () => {
    const queue = new JobQueue(1);
    const order: string[] = [];
    const [a, b, c] = ['a', 'b', 'c'].map((id) => enter(queue, id, order)) as [
      QueueTicket,
      QueueTicket,
      QueueTicket,
    ];
    await settled();
    expect(order).toEqual(['a']);
    expect([a.waiting, b.waiting, c.waiting]).toEqual([false, true, true]);
    expect(['a', 'b', 'c'].map((id) => queue.positionOf(id))).toEqual([undefined, 1, 2]);
    a.leave();
    await settled();
    expect(order).toEqual(['a', 'b']);
    expect(['a', 'b', 'c'].map((id) => queue.positionOf(id))).toEqual([undefined, undefined, 1]);
    b.leave();
    await c.granted;
    expect(order).toEqual(['a', 'b', 'c']);
  });

  test('a job that leaves while it waits is never let in, and those behind move up', async () => {
    const queue = new JobQueue(1);
    const order: string[] = [];
    const [a, b] = ['a', 'b', 'c'].map((id) => enter(queue, id, order)) as [QueueTicket, QueueTicket];
    b.leave();
    expect(b.waiting).toBe(false);
    expect([queue.positionOf('b'), queue.positionOf('c')]).toEqual([undefined, 1]);
    a.leave();
    await settled();
    expect(order).toEqual(['a', 'c']);
  });

  test('leaving twice gives back one slot only, also after waiting', async () => {
    const queue = new JobQueue(1);
    const order: string[] = [];
    const [a, b] = ['a', 'b', 'c', 'd'].map((id) => enter(queue, id, order)) as [QueueTicket, QueueTicket];
    b.leave();
    b.leave();
    expect([queue.positionOf('c'), queue.positionOf('d')]).toEqual([1, 2]);
    a.leave();
    a.leave();
    await settled();
    expect(order).toEqual(['a', 'c']);
    expect(queue.positionOf('d')).toBe(1);
  });
});

test('so many slots, so many at a time', async () => {
  const queue = new JobQueue(2);
  const order: string[] = [];
  const tickets = ['a', 'b', 'c'].map((id) => enter(queue, id, order));
  await settled();
  expect(order).toEqual(['a', 'b']);
  tickets[1]?.leave();
  await settled();
  expect(order).toEqual(['a', 'b', 'c']);
});

test('without a limit nobody waits', () => {
  const queue = new JobQueue(Number.POSITIVE_INFINITY);
  const tickets = Array.from({ length: 1000 }, (_, n) => queue.enter(String(n)));
  expect(tickets.some((ticket) => ticket.waiting)).toBe(false);
  expect(queue.positionOf('999')).toBeUndefined();
});

test('counts who has a slot and who waits', () => {
  const queue = new JobQueue(2);
  expect(queue.counts).toEqual({ running: 0, waiting: 0 });
  const [a, , c] = ['a', 'b', 'c', 'd'].map((id) => queue.enter(id)) as [
    QueueTicket,
    QueueTicket,
    QueueTicket,
  ];
  expect(queue.counts).toEqual({ running: 2, waiting: 2 });
  c.leave();
  expect(queue.counts).toEqual({ running: 2, waiting: 1 });
  a.leave();
  expect(queue.counts).toEqual({ running: 2, waiting: 0 });
});

test('an unknown job has no position', () => {
  expect(new JobQueue(1).positionOf('nobody')).toBeUndefined();
});

test('whatever comes and goes: never more than the slots, none idle while somebody waits, first come first served', async () => {
  const steps = fc.array(fc.record({ enters: fc.boolean(), which: fc.nat(20) }), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), steps, async (slots, script) => {
      const queue = new JobQueue(slots);
      const order: string[] = [];
      const present: { id: string; ticket: QueueTicket }[] = [];
      for (const [n, { enters, which }] of script.entries()) {
        if (enters) present.push({ id: String(n), ticket: enter(queue, String(n), order) });
        else present.splice(which % Math.max(1, present.length), 1)[0]?.ticket.leave();
        const waiting = present.filter(({ ticket }) => ticket.waiting);
        expect(present.length - waiting.length).toBe(Math.min(slots, present.length));
        expect(queue.counts).toEqual({
          running: present.length - waiting.length,
          waiting: waiting.length,
        });
        expect(waiting.map(({ id }) => queue.positionOf(id))).toEqual(waiting.map((_, index) => index + 1));
      }
      await settled();
      expect(order).toEqual([...order].sort((a, b) => Number(a) - Number(b)));
    }),
  );
});

describe('a queue in which only so many may wait', () => {
  const full = () => {
    const queue = new JobQueue(1, { maxWaiting: 2 });
    const tickets = ['a', 'b', 'c'].map((id) => queue.reserve()?.enter(id) as QueueTicket);
    return { queue, tickets };
  };

  test('has no place for a further one until somebody has left, in whichever way', () => {
    const { queue, tickets } = full();
    expect(queue.reserve()).toBeUndefined();
    tickets[1]?.leave();
    const reserved = queue.reserve();
    expect(reserved).toBeDefined();
    expect(queue.reserve()).toBeUndefined();
    reserved?.giveUp();
    reserved?.giveUp();
    const ticket = queue.reserve()?.enter('d');
    expect(queue.reserve()).toBeUndefined();
    expect([ticket?.waiting, queue.positionOf('d')]).toEqual([true, 2]);
    tickets[0]?.leave();
    expect(queue.counts).toEqual({ running: 1, waiting: 1 });
    expect(queue.reserve()).toBeDefined();
  });

  test('gives nobody’s place away who has entered', () => {
    const queue = new JobQueue(1, { maxWaiting: 1 });
    const place = queue.reserve();
    place?.enter('a');
    place?.giveUp();
    expect(queue.counts).toEqual({ running: 1, waiting: 0 });
    queue.reserve()?.enter('b');
    expect(queue.reserve()).toBeUndefined();
  });

  test('takes what must be taken', () => {
    const { queue } = full();
    expect(queue.enter('d').waiting).toBe(true);
    expect(queue.positionOf('d')).toBe(3);
    expect(queue.reserve()).toBeUndefined();
  });

  test('is never full without a limit on those that run', () => {
    const queue = new JobQueue(Number.POSITIVE_INFINITY, { maxWaiting: 1 });
    for (let n = 0; n < 100; n += 1) expect(queue.reserve()?.enter(String(n)).waiting).toBe(false);
  });
});

describe('a reserved place', () => {
  test('is kept in the order of arrival, but holds up nobody', async () => {
    const queue = new JobQueue(1);
    const order: string[] = [];
    const entered = (ticket: QueueTicket, id: string) => {
      void ticket.granted.then(() => order.push(id));
      return ticket;
    };
    const slow = queue.reserve();
    // There is a slot, and nobody else who could have it.
    const quick = entered(queue.enter('quick'), 'quick');
    entered(queue.enter('late'), 'late');
    expect(queue.positionOf('late')).toBe(2);
    const first = entered(slow?.enter('slow') as QueueTicket, 'slow');
    expect([queue.positionOf('slow'), queue.positionOf('late')]).toEqual([1, 2]);
    quick.leave();
    first.leave();
    await settled();
    expect(order).toEqual(['quick', 'slow', 'late']);
  });
});

describe('a queue that pauses', () => {
  test('lets nobody in, until all who wanted that are done', async () => {
    const queue = new JobQueue(1);
    const order: string[] = [];
    const a = enter(queue, 'a', order);
    const [goOn, goOnAgain] = [queue.pause(), queue.pause()];
    const b = enter(queue, 'b', order);
    a.leave();
    goOn();
    goOn();
    await settled();
    expect([order, b.waiting]).toEqual([['a'], true]);
    goOnAgain();
    await b.granted;
    expect(order).toEqual(['a', 'b']);
  });
});

describe('the time after which one may try again', () => {
  let nowMs: number;
  const queueOf = (concurrency: number) => {
    nowMs = 0;
    return new JobQueue(concurrency, { maxWaiting: 5_000, now: () => nowMs });
  };
  /** Jobs that take so long, one after the other. */
  const pass = (queue: JobQueue, ...durationsMs: number[]) => {
    for (const durationMs of durationsMs) {
      const ticket = queue.enter('done');
      nowMs += durationMs;
      ticket.leave();
      ticket.leave();
    }
  };
  const fill = (queue: JobQueue, count: number) => {
    for (let n = 0; n < count; n += 1) queue.enter(String(n));
  };

  test('is that of those who wait, as long as the last jobs took, in whole seconds', () => {
    const queue = queueOf(1);
    pass(queue, 4_000, 6_100);
    fill(queue, 11);
    expect(queue.retryAfterSeconds).toBe(51);
  });

  test('counts the slots', () => {
    const queue = queueOf(4);
    pass(queue, 8_000);
    fill(queue, 14);
    expect(queue.retryAfterSeconds).toBe(20);
  });

  test('forgets what was long ago', () => {
    const queue = queueOf(1);
    pass(queue, ...Array.from({ length: 20 }, () => 1_000_000), ...Array.from({ length: 20 }, () => 2_000));
    fill(queue, 4);
    expect(queue.retryAfterSeconds).toBe(6);
  });

  test('is a guess as long as none has ended; a job that waited and left tells nothing', () => {
    const queue = queueOf(1);
    fill(queue, 4);
    const waiting = queue.enter('left');
    nowMs += 1_000_000;
    waiting.leave();
    expect(queue.retryAfterSeconds).toBe(30);
  });

  test.each([
    [1, 1, 1],
    [1_000_000, 1_000, 3_600],
    [1_000, 0, 1],
  ])('is from a second to an hour: %d ms, %d waiting', (durationMs, waiting, expected) => {
    const queue = queueOf(1);
    pass(queue, durationMs);
    fill(queue, waiting + 1);
    expect(queue.retryAfterSeconds).toBe(expected);
  });
});
