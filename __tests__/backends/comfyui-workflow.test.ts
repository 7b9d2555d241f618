import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readWorkflow } from '../../lib/backends/comfyui-workflow.js';

const encoder = (text: unknown) => ({ class_type: 'CLIPTextEncode', inputs: { text, clip: ['4', 1] } });
const sampler = (inputs: Record<string, unknown> = {}) => ({
  class_type: 'KSampler',
  inputs: { positive: ['6', 0], negative: ['7', 0], steps: 20, cfg: 8, sampler_name: 'euler', ...inputs },
});
const read = (workflow: unknown) => readWorkflow(JSON.stringify(workflow));

describe('the prompt', () => {
  test('is the text of the encoder on the positive side, wherever it stands', () => {
    const workflow = { '7': encoder('ugly'), '6': encoder('a bay'), '3': sampler() };
    expect(read(workflow)).toMatchObject({ prompt: 'a bay', fields: { negative_prompt: 'ugly' } });
  });

  test('is found through nodes in between', () => {
    const workflow = {
      '3': sampler({ positive: ['20', 0], negative: ['20', 1] }),
      '20': { class_type: 'ControlNetApplyAdvanced', inputs: { positive: ['21', 0], negative: ['7', 0] } },
      '21': {
        class_type: 'ConditioningCombine',
        inputs: { conditioning_1: ['6', 0], conditioning_2: ['8', 0] },
      },
      '6': encoder('first'),
      '8': encoder('second'),
      '7': encoder('ugly'),
    };
    expect(read(workflow)).toMatchObject({ prompt: 'first', fields: { negative_prompt: 'ugly' } });
  });

  test('is found where the text itself comes from a node', () => {
    const workflow = {
      '3': sampler(),
      '6': encoder(['30', 0]),
      '30': { class_type: 'PrimitiveStringMultiline', inputs: { value: 'from afar' } },
      '7': encoder(''),
    };
    expect(read(workflow).prompt).toBe('from afar');
    expect(read(workflow).fields).not.toHaveProperty('negative_prompt');
  });

  test('is found behind a guider, as newer models have it', () => {
    const workflow = {
      '13': { class_type: 'SamplerCustomAdvanced', inputs: { noise: ['25', 0], guider: ['22', 0] } },
      '22': { class_type: 'BasicGuider', inputs: { model: ['12', 0], conditioning: ['26', 0] } },
      '26': { class_type: 'FluxGuidance', inputs: { guidance: 3.5, conditioning: ['6', 0] } },
      '25': { class_type: 'RandomNoise', inputs: { noise_seed: 5 } },
      '6': encoder('a fox'),
    };
    expect(read(workflow)).toEqual({ prompt: 'a fox', fields: { nodes: 5, seed: 5, cfg_scale: 3.5 } });
  });

  test('is that of the first encoder where nothing leads to one', () => {
    expect(read({ '1': { class_type: 'Other', inputs: { text: 'no' } }, '2': encoder('yes') }).prompt).toBe(
      'yes',
    );
  });

  test('goes round in no circle', () => {
    const workflow = {
      '3': sampler({ positive: ['20', 0] }),
      '20': { class_type: 'A', inputs: { conditioning: ['21', 0] } },
      '21': { class_type: 'B', inputs: { conditioning: ['20', 0] } },
    };
    expect(read(workflow).prompt).toBe('');
  });

  test('is cut where it is too long for a record', () => {
    const { prompt } = read({ '3': sampler(), '6': encoder('x'.repeat(20_000)) });
    expect([prompt.length, prompt.endsWith('…')]).toEqual([10_000, true]);
  });
});

describe('the fields', () => {
  test('have the names that Automatic1111 has for them; a seed of 64 bits is its text', () => {
    const text = `{"3": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "steps": 4, "cfg": 8.0,
      "denoise": 0.5, "sampler_name": "euler", "scheduler": "normal", "positive": ["6", 0], "note": "\\"12345678901234567890"}},
      "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 2, "seed": 1}},
      "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}}}`;
    expect(readWorkflow(text).fields).toEqual({
      nodes: 3,
      seed: '18446744073709551615',
      steps: 4,
      cfg_scale: 8,
      denoising_strength: 0.5,
      sampler_name: 'euler',
      scheduler: 'normal',
      width: 512,
      height: 768,
      batch_size: 2,
      model: 'v1-5.safetensors',
    });
  });
});

test.each([
  undefined,
  '',
  'x',
  '[]',
  'null',
  '7',
  '{"1": null}',
  '{"1": {"inputs": []}}',
  `${'['.repeat(200_000)}`,
])('%.20s says nothing', (text) => {
  expect(readWorkflow(text)).toEqual({ prompt: '', fields: {} });
});

test('whatever comes: it never throws, and gives a text and scalars', () => {
  const input = fc.oneof(fc.jsonValue(), fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(2)));
  const node = fc.record({
    class_type: fc.oneof(fc.constantFrom('KSampler', 'BasicGuider', 'CLIPTextEncode'), fc.jsonValue()),
    inputs: fc.dictionary(
      fc.constantFrom('positive', 'negative', 'conditioning', 'text', 'seed', 'steps'),
      input,
    ),
  });
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom('a', 'b', 'c'), node), (workflow) => {
      const { prompt, fields } = read(workflow);
      expect(typeof prompt).toBe('string');
      for (const value of Object.values(fields)) expect(['string', 'number']).toContain(typeof value);
    }),
  );
});
