import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Identity } from '../../lib/auth/identity.js';
import { HistoryIndex } from '../../lib/comfyui/history-index.js';
import { MergedHistory } from '../../lib/comfyui/merged-history.js';
import { JobTrackerError } from '../../lib/errors.js';
import type { BackendAnswer } from '../../lib/http/backend-call.js';
import { createJobEvents } from '../../lib/jobs/job-events.js';
import { makeComfyJob, promptIdOf } from '../helpers/comfyui-jobs.js';
import { collectLog } from '../helpers/job-records.js';

const admin: Identity = { name: undefined, isAdmin: true };

/** Entries by the numbers of their prompts. */
interface World {
  readonly kept: readonly number[];
  /** Undefined: ComfyUI is not there. */
  readonly live: readonly number[] | undefined;
  /** Whose the prompts are; those of nobody are not tracked. */
  readonly users?: ReadonlyMap<number, string>;
}

const liveText = (n: number) => `"${promptIdOf(n)}": {"live": 8.0}`;
const keptText = (n: number) => `"${promptIdOf(n)}": {"kept": 18446744073709551615}`;
const historyOf = (texts: readonly string[]) => `{${texts.join(', ')}}`;

/** ComfyUI's way of choosing what it shows, step by step. */
function shownBy(all: readonly string[], maxItems: number | undefined, offset: number): string[] {
  const out: string[] = [];
  const from = offset < 0 && maxItems !== undefined ? all.length - maxItems : offset;
  for (const [i, text] of all.entries()) {
    if (i < from) continue;
    out.push(text);
    if (maxItems !== undefined && out.length >= maxItems) break;
  }
  return out;
}

/** A history over such a world, with what ComfyUI was asked for. */
async function startHistory({ kept, live, users = new Map() }: World) {
  const jobs = kept.map((n) => {
    const user = users.get(n);
    return makeComfyJob(n, user === undefined ? {} : { user });
  });
  // Tracked too, and with nothing kept: ComfyUI alone has their entries.
  const others = [...users].filter(([n]) => !kept.includes(n));
  const unkept = others.map(([n, user]) => {
    const { sidecar: _, ...job } = makeComfyJob(n, { user });
    return job;
  });
  const index = new HistoryIndex({
    store: {
      async *walk() {
        yield [...jobs, ...unkept];
      },
    },
    events: createJobEvents(),
  });
  await index.open();
  const asked: string[] = [];
  const log = collectLog();
  const history = new MergedHistory({
    index,
    texts: { get: async () => Buffer.from('{"kept": 18446744073709551615}') },
    origin: 'http://comfyui',
    logger: log,
  });
  const ask = (parameters: URLSearchParams) => async (query?: URLSearchParams) => {
    const used = query ?? parameters;
    asked.push(used.toString());
    if (!live)
      throw new JobTrackerError('BACKEND_UNANSWERED', 'http://comfyui cannot be reached (ECONNREFUSED)');
    const max = used.get('max_items');
    const shown = shownBy(
      live.map(liveText),
      max === null ? undefined : Number(max),
      Number(used.get('offset') ?? -1),
    );
    return answer(200, historyOf(shown));
  };
  return {
    index,
    asked,
    log,
    history,
    list: (parameters: URLSearchParams, who = admin) => history.list(ask(parameters), parameters, who),
    entry: (n: number, who = admin) =>
      history.entry(
        async () => {
          if (!live)
            throw new JobTrackerError(
              'BACKEND_UNANSWERED',
              'http://comfyui cannot be reached (ECONNREFUSED)',
            );
          return answer(200, historyOf(live.filter((one) => one === n).map(liveText)));
        },
        promptIdOf(n),
        who,
      ),
  };
}

function answer(status: number, body: string): BackendAnswer {
  return { status, headers: {}, rawHeaders: [], body: Buffer.from(body) };
}

function parametersOf(maxItems: number | undefined, offset: number | undefined): URLSearchParams {
  const parameters = new URLSearchParams();
  if (maxItems !== undefined) parameters.set('max_items', String(maxItems));
  if (offset !== undefined) parameters.set('offset', String(offset));
  return parameters;
}

describe('the list', () => {
  test('is ComfyUI’s own choice of all that is kept and all that is live, whatever is asked for', async () => {
    const numbers = fc
      .uniqueArray(fc.integer({ min: 0, max: 14 }), { maxLength: 10 })
      .map((all) => all.sort((a, b) => a - b));
    const size = fc.option(fc.integer({ min: -3, max: 18 }), { nil: undefined });
    const owners = fc.constantFrom('ann', 'bob', undefined);
    await fc.assert(
      fc.asyncProperty(
        numbers,
        fc.option(numbers, { nil: undefined }),
        fc.array(owners, { minLength: 15, maxLength: 15 }),
        fc.boolean(),
        size,
        size,
        async (kept, live, makers, isAdmin, maxItems, offset) => {
          const users = new Map(
            makers.flatMap((user, n) => (user === undefined ? [] : [[n, user] as const])),
          );
          const { list } = await startHistory({ kept, live, users });
          const who: Identity = { name: 'ann', isAdmin };
          const mayHaveKept = (n: number) => isAdmin || users.get(n) === 'ann';
          // Of what nobody has made here, ComfyUI's own entry is everybody's; one that is kept has a job without a maker.
          const mayHaveLive = (n: number) =>
            isAdmin || users.get(n) === 'ann' || (users.get(n) === undefined && !kept.includes(n));
          const forgotten = kept.filter((n) => !live?.includes(n) && mayHaveKept(n)).map(keptText);
          const own = (live ?? []).filter(mayHaveLive).map(liveText);
          const expected = shownBy([...forgotten, ...own], maxItems, offset ?? -1);
          const shown = await list(parametersOf(maxItems, offset), who).catch(
            (error: JobTrackerError) => error.code,
          );
          if (!live && expected.length === 0) expect(shown).toBe('BACKEND_UNANSWERED');
          else expect(String((shown as { body: Buffer }).body)).toBe(historyOf(expected));
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('without `max_items` it has the newest 200 of what is kept, and all that is live', async () => {
    const kept = Array.from({ length: 250 }, (_, n) => n);
    const { list } = await startHistory({ kept, live: [249, 300, 301] });
    const all = [...kept.slice(49, 249).map(keptText), ...[249, 300, 301].map(liveText)];
    expect(String((await list(parametersOf(undefined, undefined))).body)).toBe(historyOf(all));
    expect(String((await list(parametersOf(undefined, 199))).body)).toBe(historyOf(all.slice(199)));
    const more = await list(parametersOf(230, undefined));
    expect(String(more.body)).toBe(historyOf([...kept.slice(22, 249).map(keptText), ...all.slice(-3)]));
  });

  test('ComfyUI is asked for no more than is needed', async () => {
    const { list, asked } = await startHistory({ kept: [1, 2, 3], live: [3, 4, 5, 6] });
    await list(parametersOf(2, undefined));
    await list(parametersOf(10, undefined));
    expect(asked.splice(0)).toEqual(['max_items=2', 'max_items=10']);
    const users = new Map([3, 4, 5, 6, 7, 8, 9].map((n) => [n, n === 3 ? 'ann' : 'bob']));
    const shared = await startHistory({ kept: [], live: [3, 4, 5, 6, 7, 8, 9], users });
    const { body } = await shared.list(parametersOf(1, undefined), { name: 'ann', isAdmin: false });
    expect(String(body)).toBe(historyOf([liveText(3)]));
    expect(shared.asked).toEqual(['max_items=1', 'max_items=4', 'max_items=16']);
  });

  test('what ComfyUI makes of parameters that are no numbers is passed on, less what is others’', async () => {
    const { list, history } = await startHistory({
      kept: [1, 2],
      live: [2, 3],
      users: new Map([[2, 'bob']]),
    });
    const odd = new URLSearchParams({ max_items: 'x' });
    const failure = answer(500, '500 Internal Server Error');
    expect(await history.list(async () => failure, odd, admin)).toEqual({
      head: failure,
      body: failure.body,
    });
    // Python also counts in the digits of other scripts.
    const ask = async () => answer(200, historyOf([liveText(2), liveText(3)]));
    const shown = await history.list(ask, new URLSearchParams({ max_items: '２' }), {
      name: 'ann',
      isAdmin: false,
    });
    expect(String(shown.body)).toBe(historyOf([liveText(3)]));
    const underscore = await list(new URLSearchParams({ max_items: ' 1_0 ' }));
    expect(String(underscore.body)).toBe(historyOf([keptText(1), liveText(2), liveText(3)]));
  });

  test('an answer in which nothing changes is passed on as it came, down to its blanks', async () => {
    const { history } = await startHistory({ kept: [1], live: undefined });
    const written = ` {"${promptIdOf(1)}":{"a":1}\n , "é" : {}} `;
    const shown = await history.list(async () => answer(200, written), new URLSearchParams(), admin);
    expect(String(shown.body)).toBe(written);
  });

  test('more than 10,000 names are all looked at', async () => {
    const live = Array.from({ length: 10_001 }, (_, n) => n);
    const { list } = await startHistory({ kept: live, live });
    expect(String((await list(parametersOf(undefined, undefined))).body)).toBe(historyOf(live.map(liveText)));
  });

  test('what is no history is passed on, but not to those from whom something may have to be kept', async () => {
    const { history } = await startHistory({ kept: [1], live: undefined });
    const page = answer(200, '<html>A proxy is in between</html>');
    expect(await history.list(async () => page, new URLSearchParams(), admin)).toEqual({
      head: page,
      body: page.body,
    });
    await expect(
      history.list(async () => page, new URLSearchParams(), { name: 'ann', isAdmin: false }),
    ).rejects.toMatchObject({
      code: 'BACKEND_UNANSWERED',
      message: 'http://comfyui gave something else than a history',
    });
  });

  test('a proxy that says that ComfyUI is not there is answered for', async () => {
    const { history } = await startHistory({ kept: [1], live: undefined });
    const gone = answer(502, 'Bad Gateway');
    expect(String((await history.list(async () => gone, new URLSearchParams(), admin)).body)).toBe(
      historyOf([keptText(1)]),
    );
    expect(await history.entry(async () => gone, promptIdOf(2), admin)).toEqual({
      head: gone,
      body: gone.body,
    });
  });
});

describe('one entry', () => {
  const users = new Map([
    [1, 'ann'],
    [2, 'bob'],
    [3, 'bob'],
  ]);
  const ann: Identity = { name: 'ann', isAdmin: false };

  test('ComfyUI’s goes first, then the kept one, then none', async () => {
    const { entry } = await startHistory({ kept: [1, 2], live: [2, 4] });
    expect(String((await entry(1)).body)).toBe(historyOf([keptText(1)]));
    expect(String((await entry(2)).body)).toBe(historyOf([liveText(2)]));
    expect(String((await entry(3)).body)).toBe('{}');
    expect(String((await entry(4)).body)).toBe(historyOf([liveText(4)]));
  });

  test('others’ are answered like those that are not there, live or kept', async () => {
    const { entry } = await startHistory({ kept: [1, 2], live: [3, 4], users });
    expect(String((await entry(1, ann)).body)).toBe(historyOf([keptText(1)]));
    expect(String((await entry(2, ann)).body)).toBe('{}');
    expect(String((await entry(3, ann)).body)).toBe('{}');
    expect(String((await entry(4, ann)).body)).toBe(historyOf([liveText(4)]));
    const down = await startHistory({ kept: [1, 2], live: undefined, users });
    expect(String((await down.entry(1, ann)).body)).toBe(historyOf([keptText(1)]));
    await expect(down.entry(2, ann)).rejects.toMatchObject({ code: 'BACKEND_UNANSWERED' });
    await expect(down.entry(9, ann)).rejects.toMatchObject({ code: 'BACKEND_UNANSWERED' });
  });
});
