import { describe, expect, test } from '@jest/globals';
import { parseHistoryEntry } from '../../lib/backends/comfyui-history.js';
import { parseQueue } from '../../lib/backends/comfyui-queue.js';

const WORKFLOW = '{"3": {"inputs": {"seed": 18446744073709551615, "cfg": 8.0}}}';
const parse = (text: string) => parseHistoryEntry(Buffer.from(text));
const entryWith = (
  prompt: string,
  outputs = '{}',
  status = '{"status_str": "success", "completed": true, "messages": []}',
) => `{"prompt": ${prompt}, "outputs": ${outputs}, "status": ${status}, "meta": {}}`;

describe('an entry of the history', () => {
  test('is kept as it is, and its workflow is found in it', () => {
    const text = entryWith(`[7.0, "id", ${WORKFLOW}, {"client_id": "abc"}, ["9"]]`);
    const entry = parse(text);
    expect(entry.text.toString()).toBe(text);
    const { start = 0, end = 0 } = entry.workflow ?? {};
    expect(entry.text.toString('utf8', start, end)).toBe(WORKFLOW);
    expect([entry.error, entry.files]).toEqual([undefined, []]);
  });

  test('loses what is secret in it, and nothing else', () => {
    const secret = `[0, "id", ${WORKFLOW}, {"auth_token_comfy_org": "s3cret", "client_id": "abc", "api_key_comfy_org": "s3cret"}, ["9"], {"api_key_comfy_org": "s3cret"}]`;
    const entry = parse(entryWith(secret));
    expect(entry.text.toString()).toBe(entryWith(`[0, "id", ${WORKFLOW}, {"client_id": "abc"}, ["9"]]`));
    const { start = 0, end = 0 } = entry.workflow ?? {};
    expect(entry.text.toString('utf8', start, end)).toBe(WORKFLOW);
  });

  test('names its files: under whatever name, each once, those that the nodes made', () => {
    const outputs = JSON.stringify({
      9: { images: [{ filename: 'a.png', subfolder: '', type: 'output' }], animated: [true] },
      10: {
        images: [
          { filename: 'a.png', subfolder: '', type: 'output' },
          { filename: 'a.png', subfolder: 'x', type: 'output' },
        ],
      },
      11: {
        gifs: [{ filename: 'v.mp4', subfolder: 'video', type: 'temp', format: 'video/h264-mp4' }],
        text: ['hello'],
      },
      12: { '3d': [{ filename: 'm.glb' }], audio: [null, 7, { filename: '' }, { filename: 3 }] },
      13: { images: [{ filename: 'in.png', subfolder: '', type: 'input' }] },
      14: null,
    });
    expect(parse(entryWith('[0, "id", {}, {}, []]', outputs)).files).toEqual([
      { filename: 'a.png', subfolder: '', type: 'output' },
      { filename: 'a.png', subfolder: 'x', type: 'output' },
      { filename: 'v.mp4', subfolder: 'video', type: 'temp' },
      { filename: 'm.glb', subfolder: '', type: 'output' },
    ]);
  });

  test('tells which node has failed, and how', () => {
    const status = JSON.stringify({
      status_str: 'error',
      completed: false,
      messages: [
        ['execution_start', { prompt_id: 'id' }],
        [
          'execution_error',
          {
            node_id: '3',
            node_type: 'KSampler',
            exception_type: 'RuntimeError',
            exception_message: 'bad\n shapes ',
          },
        ],
      ],
    });
    expect(parse(entryWith('[]', '{}', status)).error).toEqual({
      code: 'backend',
      message: 'KSampler (node 3): RuntimeError: bad shapes',
    });
  });

  test('tells that it was interrupted', () => {
    const status = JSON.stringify({
      status_str: 'error',
      completed: false,
      messages: [['execution_interrupted', { node_id: '3', node_type: 'KSampler', executed: [] }]],
    });
    expect(parse(entryWith('[]', '{}', status)).error).toEqual({
      code: 'cancelled',
      message: 'ComfyUI was interrupted at KSampler (node 3)',
    });
  });

  test('is read with numbers that are none, as Python writes them', () => {
    const outputs =
      '{"8": {"loss": [NaN, -Infinity]}, "9": {"images": [{"filename": "NaN \\"Infinity\\".png", "seed": NaN}]}}';
    const status =
      '{"status_str": "error", "messages": [["execution_error", {"exception_message": "is NaN", "current_inputs": {"x": [NaN]}}]]}';
    const text = entryWith(`[0, "id", {"3": {"is_changed": [NaN]}}, {}, []]`, outputs, status);
    expect(parse(text)).toMatchObject({
      text: Buffer.from(text),
      error: { code: 'backend', message: 'is NaN' },
      files: [{ filename: 'NaN "Infinity".png', subfolder: '', type: 'output' }],
    });
  });

  test.each([
    '{"status_str": "error"}',
    '{"status_str": "error", "messages": 7}',
    '{"completed": false, "messages": [null, []]}',
  ])('that says no more than %s has failed all the same', (status) => {
    expect(parse(entryWith('[]', '{}', status)).error).toEqual({
      code: 'backend',
      message: 'ComfyUI says only that it failed',
    });
  });

  test.each(['{}', '{"prompt": 7, "outputs": [], "status": null}', 'nonsense', ''])(
    '%j says nothing',
    (text) => {
      expect(parse(text)).toEqual({
        text: Buffer.from(text),
        workflow: undefined,
        error: undefined,
        files: [],
      });
    },
  );
});

describe('the queue', () => {
  const read = (text: string) => parseQueue(Buffer.from(text));

  test('is told by ids, the waiting ones in the order of their numbers', () => {
    const item = (number: string, id: string) => `[${number}, "${id}", ${WORKFLOW}, {}, ["9"]]`;
    const text = `{"queue_running": [${item('0', 'r')}], "queue_pending": [${item('3', 'c')}, ${item('-1.0', 'a')}, ${item('2', 'b')}]}`;
    expect(read(text)).toEqual({ running: new Set(['r']), pending: ['a', 'b', 'c'] });
    expect(read('{"queue_running": [], "queue_pending": []}')).toEqual({ running: new Set(), pending: [] });
  });

  test('takes items that are none for nothing', () => {
    expect(
      read('{"queue_running": [7, [], [1], [1, 2], {"a": 1}], "queue_pending": [null, ["x", "id"]]}'),
    ).toEqual({
      running: new Set(),
      pending: ['id'],
    });
  });

  test.each([
    '',
    '{}',
    '[]',
    '{"queue_running": []}',
    '{"queue_running": 1, "queue_pending": []}',
    '{"queue_running": [], "queue_pending": []',
  ])('%j is none', (text) => {
    expect(read(text)).toBeUndefined();
  });
});
