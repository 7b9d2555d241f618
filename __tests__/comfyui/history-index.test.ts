import { describe, expect, test } from '@jest/globals';
import type { Identity } from '../../lib/auth/identity.js';
import { HistoryIndex } from '../../lib/comfyui/history-index.js';
import type { Job } from '../../lib/job.js';
import { createJobEvents } from '../../lib/jobs/job-events.js';
import { makeComfyJob, promptIdOf } from '../helpers/comfyui-jobs.js';

const admin: Identity = { name: undefined, isAdmin: true };
const ann: Identity = { name: 'ann', isAdmin: false };
const bob: Identity = { name: 'bob', isAdmin: false };

/** An index over a store with these pages; what is to happen between two of them is a function. */
function indexOf(...pages: (readonly Job[] | (() => void))[]) {
  const events = createJobEvents();
  const store = {
    async *walk() {
      for (const page of pages) {
        if (typeof page === 'function') page();
        else yield page;
      }
    },
  };
  return { events, index: new HistoryIndex({ store, events }) };
}

const newest = (index: HistoryIndex, who = admin) => [...index.newestFirst(who)].map(({ id }) => id);
const file = { filename: 'a.png', subfolder: '', type: 'output' };

describe('the index', () => {
  test('knows what happens while the store is walked through', async () => {
    const running = makeComfyJob(2, { status: 'Processing' });
    const { events, index } = indexOf([makeComfyJob(1), running, makeComfyJob(3)], () => {
      events.emit('completed', makeComfyJob(2));
      events.emit('removed', makeComfyJob(3));
      events.emit('failed', makeComfyJob(5, { status: 'Failed' }));
    }, [makeComfyJob(4)]);
    await index.open();
    expect(newest(index)).toEqual(['Job00005', 'Job00002', 'Job00004', 'Job00001']);
  });

  test('may be opened once more where the store has failed', async () => {
    let isBroken = true;
    const { events, index } = indexOf([makeComfyJob(1)], () => {
      if (isBroken) throw new Error('a broken disk');
    });
    await expect(index.open()).rejects.toThrow('a broken disk');
    isBroken = false;
    await index.open();
    await index.open();
    expect(newest(index)).toEqual(['Job00001']);
    events.emit('removed', makeComfyJob(1));
    expect(newest(index)).toEqual([]);
    expect(index.isEmpty).toBe(true);
  });

  test('has only what ended with an entry that nobody has deleted', async () => {
    const { sidecar: _, ...without } = makeComfyJob(1);
    const { index } = indexOf([
      without,
      makeComfyJob(2, { history_deleted: true }),
      makeComfyJob(3, { status: 'Processing' }),
      makeComfyJob(4, { backend: 'a1111' }),
      makeComfyJob(5),
    ]);
    await index.open();
    expect(newest(index)).toEqual(['Job00005']);
    index.unlist('Job00005');
    index.unlist('Job00005');
    expect(index.isEmpty).toBe(true);
  });

  test('stays in order while thousands come and go', async () => {
    const { events, index } = indexOf();
    await index.open();
    for (let n = 0; n < 5_000; n += 1) events.emit('completed', makeComfyJob(n));
    const walk = index.newestFirst(admin);
    expect(walk.next().value).toMatchObject({ id: 'Job04999' });
    for (let n = 0; n < 4_990; n += 1) events.emit('removed', makeComfyJob(n));
    expect([...walk].map(({ id }) => id)).toEqual(newest(index).slice(1));
    expect(newest(index)).toHaveLength(10);
  });
});

describe('a prompt that is run again under its id by somebody else', () => {
  const again = (differences: Partial<Job> = {}) =>
    makeComfyJob(2, { prompt_id: promptIdOf(1), user: 'bob', ...differences });
  const first = makeComfyJob(1, { user: 'ann' });

  test('does not show the first one’s entry to them before it has one itself', async () => {
    const { events, index } = indexOf([first]);
    await index.open();
    const { prompt_id: _, sidecar: _sidecar, ...begun } = again({ status: 'Pending' });
    events.emit('created', begun);
    index.follow('Job00002', promptIdOf(1));
    expect([index.isForeign(promptIdOf(1), ann), index.isForeign(promptIdOf(1), bob)]).toEqual([false, true]);
    const { sidecar: _none, ...cancelled } = again({ status: 'Failed' });
    events.emit('failed', cancelled);
    expect([index.isForeign(promptIdOf(1), ann), index.isForeign(promptIdOf(1), bob)]).toEqual([false, true]);
  });

  test('takes its place at ComfyUI, and each keeps their own here', async () => {
    const { index } = indexOf([first, again()]);
    await index.open();
    expect([index.isForeign(promptIdOf(1), ann), index.isForeign(promptIdOf(1), bob)]).toEqual([true, false]);
    expect([newest(index), newest(index, ann), newest(index, bob)]).toEqual([
      ['Job00002'],
      ['Job00001'],
      ['Job00002'],
    ]);
    expect(index.entryOf(promptIdOf(1), ann)?.id).toBe('Job00001');
  });
});

describe('a file', () => {
  test('is found under all ways to write its folder, the newest copies first', async () => {
    const named = (n: number) =>
      makeComfyJob(n, { comfyui_files: [{ ...file, subfolder: 'a/b' }], output_paths: [`${n}.png`] });
    const { index } = indexOf(Array.from({ length: 30 }, (_, n) => named(n)));
    await index.open();
    for (const subfolder of ['a/b', 'a//b/', './a/b', 'a/x/../b']) {
      const found = index.find({ ...file, subfolder }, admin);
      expect((found as readonly { path: string }[]).map(({ path }) => path)).toEqual(
        Array.from({ length: 10 }, (_, n) => `${29 - n}.png`),
      );
    }
    for (const other of [{ subfolder: 'A/b' }, { subfolder: '' }, { subfolder: 'a/b', type: 'temp' }]) {
      expect(index.find({ ...file, ...other }, admin)).toBe('unknown');
    }
  });

  test('of several people is each one’s', async () => {
    const of = (n: number, user: string) =>
      makeComfyJob(n, { user, comfyui_files: [file], output_paths: [`${n}.png`] });
    const { index } = indexOf([of(1, 'ann'), of(2, 'bob')]);
    await index.open();
    expect(index.find(file, ann)).toMatchObject([{ path: '1.png' }]);
    expect(index.find(file, bob)).toMatchObject([{ path: '2.png' }]);
    expect(index.find(file, admin)).toMatchObject([{ path: '2.png' }, { path: '1.png' }]);
    expect(index.find(file, { name: 'eve', isAdmin: false })).toBe('foreign');
    expect(index.find({ ...file, filename: 'b.png' }, ann)).toBe('unknown');
  });
});
