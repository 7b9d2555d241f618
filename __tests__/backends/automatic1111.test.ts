import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { automatic1111 } from '../../lib/backends/automatic1111.js';
import { memberEdits } from '../../lib/json/member-edits.js';
import { editedText } from '../../lib/json/text-edits.js';
import { TopLevelMembers } from '../../lib/json/top-level-members.js';

function membersOf(body: string | Buffer): TopLevelMembers {
  const members = new TopLevelMembers();
  members.write(Buffer.from(body));
  members.end();
  return members;
}

const read = (body: string | object) =>
  automatic1111.readRequest(membersOf(typeof body === 'string' ? body : JSON.stringify(body)));
const fieldsOf = (body: string | object) => read(body).fields;

const changesTo = (body: string, forwards = false) =>
  automatic1111.changesTo(membersOf(body), { jobId: 'Ab12Cd34', forwards });

describe('generation requests', () => {
  test.each([
    ['POST', '/sdapi/v1/txt2img', true],
    ['POST', '/sdapi/v1/img2img', true],
    ['GET', '/sdapi/v1/txt2img', false],
    ['HEAD', '/sdapi/v1/txt2img', false],
    ['OPTIONS', '/sdapi/v1/txt2img', false],
    [undefined, '/sdapi/v1/txt2img', false],
    // A1111 redirects this one, and the client comes again.
    ['POST', '/sdapi/v1/txt2img/', true],
    ['POST', '/sdapi/v1/TXT2IMG', true],
    ['POST', '/sdapi/v1/txt2img2', false],
    ['POST', '/x/sdapi/v1/txt2img', false],
    ['POST', '//sdapi/v1/txt2img', true],
    ['POST', '/sdapi/v1/extra-single-image', false],
    ['POST', '/prompt', false],
  ])('%s %s: %p', (method, path, expected) => {
    expect(automatic1111.matches(method, path)).toBe(expected);
  });
});

describe('what is recorded of a request', () => {
  test('the small fields that matter, as they are', () => {
    const fields = {
      negative_prompt: 'fog',
      seed: 5,
      steps: 20,
      width: 512,
      height: 768,
      cfg_scale: 7.5,
      sampler_name: 'Euler a',
      scheduler: 'Karras',
      batch_size: 2,
      n_iter: 3,
      denoising_strength: 0.75,
      send_images: true,
    };
    const more = {
      init_images: ['AAAA'],
      override_settings: { a: 1 },
      auth: 'user:pass',
      url: 'http://x',
      save_images: true,
    };
    expect(read({ prompt: 'a boat', ...fields, ...more })).toEqual({
      prompt: 'a boat',
      fields,
      imagesUnwanted: false,
      hasSecrets: true,
    });
  });

  test('numbers that JavaScript cannot hold stay text', () => {
    const body = `{"seed":18446744073709551615,"steps":-9007199254740993,"width":9007199254740991,"cfg_scale":1e400,"height":1e30}`;
    expect(fieldsOf(body)).toEqual({
      seed: '18446744073709551615',
      steps: '-9007199254740993',
      width: 9007199254740991,
      cfg_scale: '1e400',
      height: '1e30',
    });
    expect(fieldsOf(`{"seed":${'9'.repeat(1_020)}}`).seed).toHaveLength(1_000);
  });

  test('floats', () => {
    expect(fieldsOf('{"cfg_scale":7.0,"denoising_strength":1e-05}')).toEqual({
      cfg_scale: 7,
      denoising_strength: 0.00001,
    });
  });

  test('a record of any JSON numbers can be written as JSON and read again', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^-?(0|[1-9]\d{0,400})(\.\d{1,30})?([eE][-+]?\d{1,4})?$/), (number) => {
        const { fields } = read(`{"cfg_scale":${number}}`);
        expect(JSON.parse(JSON.stringify(fields))).toEqual({
          cfg_scale: Object.is(fields.cfg_scale, -0) ? 0 : fields.cfg_scale,
        });
      }),
    );
  });

  test('what is no small value is left out', () => {
    expect(
      fieldsOf({ seed: null, steps: [20], width: { a: 1 }, sampler_name: '', batch_size: undefined }),
    ).toEqual({});
  });

  test('the last of several, as for the backend', () => {
    expect(read('{"prompt":"one","prompt":"two","steps":1,"steps":2}')).toMatchObject({
      prompt: 'two',
      fields: { steps: 2 },
    });
  });

  test('names and texts with escapes', () => {
    expect(read('{"pro\\u006dpt":"\\ud83c\\udf0a \\"w\\" \\n","st\\u0065ps":3}')).toMatchObject({
      prompt: '🌊 "w" \n',
      fields: { steps: 3 },
    });
  });

  test('a long prompt is cut, and so is a long text', () => {
    const { prompt, fields } = read({
      prompt: 'x'.repeat(20_000),
      negative_prompt: 'y'.repeat(2_000),
      sampler_name: 'z'.repeat(1_000),
    });
    expect(prompt).toBe(`${'x'.repeat(9_999)}…`);
    expect(fields.negative_prompt).toBe(`${'y'.repeat(999)}…`);
    expect(fields.sampler_name).toBe('z'.repeat(1_000));
    expect(read({ prompt: 'x'.repeat(10_000) }).prompt).toBe('x'.repeat(10_000));
  });

  test.each([
    '',
    'not JSON',
    '[]',
    '[{"prompt":"x"}]',
    'null',
    '"prompt"',
    '5',
    '<html>',
    '{}',
    '\0\0\0',
    '--boundary\r\n',
  ])('a body %j says nothing', (body) => {
    expect(read(body)).toEqual({ prompt: '', fields: {}, imagesUnwanted: false, hasSecrets: false });
  });

  test.each([5, null, true, ['a'], { a: 1 }])('a prompt %j is none', (prompt) => {
    expect(read({ prompt }).prompt).toBe('');
  });

  test('whatever bytes come, nothing is thrown', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (body) => {
        const members = membersOf(body);
        expect(typeof automatic1111.readRequest(members).prompt).toBe('string');
        automatic1111.changesTo(members, { jobId: 'Ab12Cd34', forwards: true });
      }),
    );
  });
});

describe('a client that wants no images', () => {
  const no = [
    'false',
    '0',
    '0.0',
    '-0',
    '"false"',
    '"False"',
    '"FALSE"',
    '"off"',
    '"no"',
    '"n"',
    '"f"',
    '"0"',
    '"\\u0066alse"',
  ];
  const yes = [
    'true',
    '1',
    '"true"',
    '"yes"',
    '"1"',
    'null',
    '""',
    '"nope"',
    '" false"',
    '[]',
    '{}',
    '2',
    '0.5',
  ];

  test.each(no)('send_images %s', (value) => {
    const body = `{"prompt":"x", "send_images" : ${value} ,"seed":1}`;
    expect(read(body).imagesUnwanted).toBe(true);
    expect(changesTo(body)).toEqual({ send_images: true });
  });

  test.each(yes)('not with send_images %s', (value) => {
    const body = `{"prompt":"x","send_images":${value}}`;
    expect(read(body).imagesUnwanted).toBe(false);
    expect(changesTo(body)).toEqual({});
  });

  test('the last word counts', () => {
    expect(read('{"send_images":false,"send_images":true}').imagesUnwanted).toBe(false);
    expect(read('{"send_images":true,"send_images":false}').imagesUnwanted).toBe(true);
  });
});

describe('what is changed in a request', () => {
  test('in wrap mode nothing but send_images', () => {
    expect(changesTo('{"prompt":"x"}')).toEqual({});
    expect(changesTo('{"prompt":"x","force_task_id":null}')).toEqual({});
  });

  test('in forward mode a task id as well, unless the client has one', () => {
    expect(changesTo('{"prompt":"x"}', true)).toEqual({ force_task_id: 'Ab12Cd34' });
    expect(changesTo('{"force_task_id":null}', true)).toEqual({ force_task_id: 'Ab12Cd34' });
    expect(changesTo('{"send_images":false}', true)).toEqual({
      send_images: true,
      force_task_id: 'Ab12Cd34',
    });
    for (const own of ['"task(mine)"', '""', '5', `"${'x'.repeat(100_000)}"`]) {
      expect(changesTo(`{"force_task_id":${own}}`, true)).toEqual({});
    }
  });

  test.each([
    '',
    '[]',
    '"send_images"',
    '{"prompt":"x"',
    '{"send_images":false',
    '{"send_images":false}}',
    '{"send_images":false} x',
    '{"send_images":false,}',
    "{'send_images':false}",
  ])('nothing in %j, which is the backend’s to refuse', (body) => {
    expect(changesTo(body, true)).toEqual({});
    expect(read(body).imagesUnwanted).toBe(false);
  });

  test('the rest of the text stays as it is', () => {
    const body = '{ "seed": 18446744073709551615,\n\t"cfg_scale":7.0, "send_images": false, "x":[1.50] }';
    const edits = memberEdits(membersOf(body), changesTo(body, true));
    expect(editedText(Buffer.from(body), edits).toString()).toBe(
      '{ "seed": 18446744073709551615,\n\t"cfg_scale":7.0, "send_images": true, "x":[1.50],"force_task_id":"Ab12Cd34" }',
    );
  });
});

describe('an error, explained in one line', () => {
  const cases: [what: string, status: number, body: string, expected: string][] = [
    [
      'a field that FastAPI refuses',
      422,
      '{"detail":[{"loc":["body","steps"],"msg":"value is not a valid integer","type":"type_error.integer"}]}',
      'body.steps: value is not a valid integer',
    ],
    [
      'several fields, one deep inside',
      422,
      '{"detail":[{"loc":["body","steps"],"msg":"one"},{"loc":["body","styles",0],"msg":"two"}]}',
      'body.steps: one: body.styles.0: two',
    ],
    [
      'a body that is no JSON',
      422,
      '{"detail":[{"loc":["body",9],"msg":"Expecting value: line 1 column 10 (char 9)","type":"value_error.jsondecode","ctx":{"doc":"{\\"auth\\":SECRET}"}}]}',
      'body.9: Expecting value: line 1 column 10 (char 9)',
    ],
    [
      'what the API itself refuses',
      400,
      '{"error":"HTTPException","detail":"Sampler not found","body":"","errors":""}',
      'HTTPException: Sampler not found',
    ],
    [
      'an exception in Python',
      500,
      '{"error":"OutOfMemoryError","detail":"","body":"","errors":"CUDA out of memory.\\n  Tried to allocate 2.00 GiB"}',
      'OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB',
    ],
    ['an unknown route', 404, '{"detail":"Not Found"}', 'Not Found'],
    ['a wrong method', 405, '{"detail":"Method Not Allowed"}', 'Method Not Allowed'],
    [
      'no credentials',
      401,
      '{"error":"HTTPException","detail":"Not authenticated","body":"","errors":""}',
      'HTTPException: Not authenticated',
    ],
    ['SD.Next', 400, '{"error":"Init image is none"}', 'Init image is none'],
    [
      'SD.Next with its code',
      500,
      '{"error":"RuntimeError","code":500,"detail":"","body":"","errors":"no"}',
      'RuntimeError: no',
    ],
    [
      'a proxy’s page',
      502,
      '<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n</body></html>\r\n',
      '<html> <head><title>502 Bad Gateway</title></head> <body> </body></html>',
    ],
    ['plain text', 500, 'Internal Server Error', 'Internal Server Error'],
    ['text that is JSON', 500, '"no"', '"no"'],
    ['an array', 500, '[1, 2]', '[1, 2]'],
    ['an object of another kind', 500, '{"message": "no"}', '{"message": "no"}'],
    ['an error that is an object', 500, '{"error":{"type":"x"}}', '{"error":{"type":"x"}}'],
    ['faults of another kind', 422, '{"detail":[null,5,{"loc":"x"}]}', 'null: 5: {"loc":"x"}'],
    ['nothing', 503, '', 'The backend answered 503 without a word'],
    ['white space', 503, ' \n ', 'The backend answered 503 without a word'],
    ['empty texts', 500, '{"error":"","detail":"","errors":""}', '{"error":"","detail":"","errors":""}'],
    ['JSON that was cut', 500, '{"error":"Runtime', '{"error":"Runtime'],
  ];

  test.each(cases)('%s', (_what, status, body, expected) => {
    expect(automatic1111.explainError(status, body)).toBe(expected);
  });

  test('no longer than a record can bear, and never on a second line', () => {
    expect(automatic1111.explainError(500, `${'word\n'.repeat(10_000)}`)).toBe(
      `${'word '.repeat(200).slice(0, 999)}…`,
    );
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (body) => {
        const said = automatic1111.explainError(500, body);
        expect(said).not.toMatch(/[\r\n]/);
        expect(said).not.toBe('');
        expect(said.length).toBeLessThanOrEqual(1_000);
      }),
    );
  });
});

describe('advice', () => {
  test.each([
    [404, '{"detail":"Not Found"}', 'It does not know its own API: start it with --api.'],
    [404, '{ "detail": "Not Found" }\n', 'It does not know its own API: start it with --api.'],
    [404, '{"error":"HTTPException","detail":"Init image not found","body":"","errors":""}', undefined],
    [404, '', undefined],
    [405, '{"detail":"Not Found"}', undefined],
    [422, '{"detail":[]}', undefined],
    [500, '{"detail":"Not Found"}', undefined],
  ])('%d %s', (status, body, expected) => {
    expect(automatic1111.advise(status, body)).toBe(expected);
  });
});
