import { describe, expect, test } from '@jest/globals';
import type { CaptureOptions } from '../../lib/backends/backend.js';
import { comfyui } from '../../lib/backends/comfyui.js';
import { TopLevelMembers } from '../../lib/json/top-level-members.js';
import { piecesOf } from '../helpers/byte-splits.js';

function membersOf(text: string): TopLevelMembers {
  const members = new TopLevelMembers({ maxValueBytes: comfyui.maxMemberBytes });
  members.write(Buffer.from(text));
  members.end();
  return members;
}
const factsOf = (text: string) => comfyui.readRequest(membersOf(text));

describe('a request', () => {
  test.each([
    ['POST', '/prompt', true],
    ['POST', '/api/prompt', true],
    ['POST', '//api/%70rompt/', true],
    ['GET', '/prompt', false],
    ['POST', '/api/prompts', false],
    ['POST', '/sdapi/v1/txt2img', false],
  ])('%s %s: a generation: %s', (method, path, isOne) => {
    expect(comfyui.matches(method, path)).toBe(isOne);
  });

  test('tells its prompt and its client', () => {
    const workflow = '{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a bay"}}}';
    expect(factsOf(`{"prompt": ${workflow}, "client_id": "abc"}`)).toEqual({
      prompt: 'a bay',
      fields: { client_id: 'abc', nodes: 1 },
      imagesUnwanted: false,
      hasSecrets: false,
    });
    expect(factsOf('{"prompt": {}, "client_id": 7}').fields).toEqual({});
    expect(factsOf('{"prompt": {}, "extra_data": {"client_id": "d"}}').fields).toEqual({ client_id: 'd' });
  });

  test('is never changed', () => {
    expect(comfyui.changesTo(membersOf('{"prompt": {}}'), { jobId: 'x', forwards: true })).toEqual({});
  });

  test.each([
    ['{"extra_data": {"api_key_comfy_org": "x"}}', true],
    ['{"extra_data": {"auth_token_comfy_org": "x"}}', true],
    ['{"extra_data": {"x": NaN, "auth_token_comfy_org": "x"}}', true],
    ['{"extra_data": {"auth_token_comfy_org": null}}', false],
    ['{"extra_data": {"extra_pnginfo": {}}}', false],
    ['{"extra_data": null}', false],
    [`{"extra_data": {"a": "${'x'.repeat(5 * 1024 * 1024)}"}}`, true],
  ])('%.60s: it may hold a secret: %s', (text, hasSecrets) => {
    expect(factsOf(text).hasSecrets).toBe(hasSecrets);
  });
});

describe('an answer', () => {
  const capture = () => comfyui.captureAnswer({} as CaptureOptions);
  const ticket = '{"prompt_id": "a331bb32", "number": 7.0, "node_errors": {}}';

  test.each([[1], [7], [1000]])('is a ticket, however it is cut: %i bytes at a time', async (size) => {
    const captured = capture();
    for (const piece of piecesOf(Buffer.from(ticket), [size])) captured.write(piece);
    expect(await captured.end()).toEqual({
      output_paths: [],
      ticket: { promptId: 'a331bb32', text: ticket },
    });
  });

  test.each([
    '',
    '<html>',
    '{}',
    '{"prompt_id": 7}',
    '{"prompt_id": ""}',
    '{"prompt_id": "x"',
    `{"prompt_id": "${'x'.repeat(201)}"}`,
  ])('%.40j names no prompt that could be followed', async (text) => {
    const captured = capture();
    captured.write(Buffer.from(text));
    const { problem, ticket: none } = await captured.end();
    expect(none).toBeUndefined();
    expect(problem).toMatchObject({
      code: 'backend',
      message: expect.stringMatching(/^Expected an answer with a `prompt_id`, got/),
    });
  });
});

describe('an error is told in one line', () => {
  test.each([
    [
      '{"error": {"type": "no_prompt", "message": "No prompt provided", "details": "No prompt provided"}, "node_errors": {}}',
      'No prompt provided',
    ],
    ['{"error": "no prompt", "node_errors": []}', 'no prompt'],
    [
      '{"error": {"message": "Prompt outputs failed validation", "details": ""}, "node_errors": {"3": {"errors": [{"message": "Value not in list", "details": "sampler_name: x"}, {"message": "Required input is missing"}], "class_type": "KSampler"}}}',
      'Prompt outputs failed validation; KSampler 3: Value not in list: sampler_name: x; KSampler 3: Required input is missing',
    ],
    [
      '500 Internal Server Error\n\nServer got itself in trouble',
      '500 Internal Server Error Server got itself in trouble',
    ],
    ['', 'The backend answered 400 without a word'],
    [
      '{"error": 7, "node_errors": {"3": null, "4": {"errors": 7}}}',
      '{"error": 7, "node_errors": {"3": null, "4": {"errors": 7}}}',
    ],
  ])('%.60s', (body, line) => {
    expect(comfyui.explainError(400, body)).toBe(line);
  });
});
