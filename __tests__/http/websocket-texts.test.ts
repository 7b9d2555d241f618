import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { WebSocketTexts } from '../../lib/http/websocket-texts.js';
import { pieceSizes, piecesOf } from '../helpers/byte-splits.js';
import { BINARY, CLOSE, fragments, frame, PING, PONG, TEXT } from '../helpers/websocket-frames.js';

const MAX_TEXT_BYTES = 70_000;

function read(bytes: Buffer, sizes: readonly number[] = [Number.MAX_SAFE_INTEGER]) {
  const texts: string[] = [];
  const reader = new WebSocketTexts({ maxTextBytes: MAX_TEXT_BYTES, onText: (text) => texts.push(text) });
  for (const piece of piecesOf(bytes, sizes)) reader.write(piece);
  return { texts, isOver: reader.isOver };
}

const text = (value: string) => frame({ opcode: TEXT, payload: Buffer.from(value) });

/** Around the places where a length takes more bits. */
const lengths = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.constantFrom(0, 125, 126, 127, 65_535, 65_536, MAX_TEXT_BYTES, MAX_TEXT_BYTES + 1),
);
const words = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  lengths.map((length) => 'x'.repeat(length)),
);
const cuts = fc.array(fc.integer({ min: 0, max: 70_000 }), { maxLength: 4 });
const control = fc
  .tuple(fc.constantFrom(PING, PONG), fc.uint8Array({ maxLength: 125 }))
  .map(([opcode, payload]) => frame({ opcode, payload }));
const between = fc.array(control, { maxLength: 3 });
/** What a server sends, and what of it is to be told. */
const message = fc.oneof(
  fc.tuple(words, cuts, between).map(([word, at, others]) => {
    const payload = Buffer.from(word);
    const told = payload.length <= MAX_TEXT_BYTES ? [word] : [];
    return { bytes: fragments(TEXT, payload, at, others), told };
  }),
  fc.tuple(lengths, cuts, between).map(([length, at, others]) => {
    // As if there were frames in it.
    const payload = Buffer.alloc(length, text('{"type":"status"}'));
    return { bytes: fragments(BINARY, payload, at, others), told: [] };
  }),
  control.map((bytes) => ({ bytes, told: [] })),
);

describe('the texts of a WebSocket', () => {
  test('are told in their order, wherever the stream is cut, whatever comes between', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), pieceSizes, (messages, sizes) => {
        const stream = Buffer.concat(messages.map(({ bytes }) => bytes));
        const { texts, isOver } = read(stream, sizes);
        expect(texts).toEqual(messages.flatMap(({ told }) => told));
        expect(isOver).toBe(false);
      }),
      { numRuns: 60 },
    );
  });

  test('any bytes at all do no harm', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), pieceSizes, (bytes, sizes) => {
        const whole = read(Buffer.from(bytes));
        expect(read(Buffer.from(bytes), sizes)).toEqual(whole);
      }),
    );
  });

  test.each([16, 64] as const)('are read with a length of %i bits that would fit into less', (lengthBits) => {
    const bytes = frame({ opcode: TEXT, payload: Buffer.from('short'), lengthBits });
    expect(read(Buffer.concat([bytes, text('next')]))).toEqual({ texts: ['short', 'next'], isOver: false });
  });

  test('of any length in frames of nothing are passed over as soon as they are too long', () => {
    const nothing = frame({ opcode: 0, isFinal: false });
    const some = frame({ opcode: 0, payload: Buffer.alloc(MAX_TEXT_BYTES, 'y'), isFinal: false });
    const stream = [frame({ opcode: TEXT, payload: Buffer.from('z'), isFinal: false }), nothing, some, some];
    const { texts } = read(Buffer.concat([...stream, frame({ opcode: 0 }), text('after')]));
    expect(texts).toEqual(['after']);
  });

  test('a preview costs no memory, however long it is', () => {
    const reader = new WebSocketTexts({ maxTextBytes: MAX_TEXT_BYTES, onText: () => {} });
    reader.write(frame({ opcode: BINARY, saysLength: 2n ** 40n }));
    const before = process.memoryUsage().arrayBuffers;
    for (let n = 0; n < 400; n += 1) reader.write(Buffer.alloc(1024 * 1024));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(200 * 1024 * 1024);
    expect(reader.isOver).toBe(false);
  });

  const faults: Readonly<Record<string, Buffer>> = {
    'what an extension has changed': frame({ opcode: TEXT, payload: Buffer.from('no'), reserved: 4 }),
    'a masked frame': frame({ opcode: TEXT, payload: Buffer.from('no'), isMasked: true }),
    'a kind of frame that is not known': frame({ opcode: 3, payload: Buffer.from('no') }),
    'a kind of control frame that is not known': frame({ opcode: 11 }),
    'the continuation of nothing': frame({ opcode: 0, payload: Buffer.from('no') }),
    'a message within another': Buffer.concat([frame({ opcode: TEXT, isFinal: false }), text('no')]),
    'a long ping': frame({ opcode: PING, payload: Buffer.alloc(126) }),
    'a ping in pieces': frame({ opcode: PING, isFinal: false }),
    'a length beyond all numbers': frame({ opcode: BINARY, saysLength: 2n ** 63n }),
    'a close': frame({ opcode: CLOSE, payload: Buffer.from([0x03, 0xe8]) }),
  };

  test.each(Object.keys(faults))('%s ends the reading, and nothing is told any more', (name) => {
    const stream = Buffer.concat([text('before'), faults[name] as Buffer, text('after')]);
    expect(read(stream)).toEqual({ texts: ['before'], isOver: true });
    expect(read(stream, [1])).toEqual({ texts: ['before'], isOver: true });
  });
});
