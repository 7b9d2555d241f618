import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { JobQueue, type QueueTicket } from '../lib/job-queue.js';

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
