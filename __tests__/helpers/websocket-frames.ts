/** What a frame begins with, as RFC 6455, section 5.2, has it. */
export interface FrameOptions {
  readonly opcode: number;
  readonly payload?: Uint8Array;
  /** Default: true. */
  readonly isFinal?: boolean;
  /** The three bits in which extensions have their say. Default: 0. */
  readonly reserved?: number;
  readonly isMasked?: boolean;
  /** What the frame says of its length, where that is not the payload's. */
  readonly saysLength?: bigint;
  /** The length in 16 or 64 bits although it would fit into less. */
  readonly lengthBits?: 16 | 64;
}

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

export function frame(options: FrameOptions): Buffer {
  const { opcode, payload = Buffer.alloc(0), isFinal = true, reserved = 0, isMasked = false } = options;
  const length = options.saysLength ?? BigInt(payload.length);
  const first = (isFinal ? 0x80 : 0) | (reserved << 4) | opcode;
  const mask = isMasked ? 0x80 : 0;
  const head = Buffer.alloc(10);
  head[0] = first;
  let headBytes = 2;
  if (length > 0xffffn || options.lengthBits === 64) {
    head[1] = mask | 127;
    head.writeBigUInt64BE(length, 2);
    headBytes = 10;
  } else if (length > 125n || options.lengthBits === 16) {
    head[1] = mask | 126;
    head.writeUInt16BE(Number(length), 2);
    headBytes = 4;
  } else {
    head[1] = mask | Number(length);
  }
  return Buffer.concat([head.subarray(0, headBytes), ...(isMasked ? [Buffer.alloc(4)] : []), payload]);
}

/** A message in frames that end at these places of its payload, with another frame after each but the last. */
export function fragments(
  opcode: number,
  payload: Uint8Array,
  cuts: readonly number[],
  between: readonly Buffer[],
): Buffer {
  const ends = [...cuts.map((cut) => Math.min(cut, payload.length)).sort((a, b) => a - b), payload.length];
  let start = 0;
  const frames = ends.flatMap((end, n) => {
    const isFinal = n === ends.length - 1;
    const one = frame({ opcode: n === 0 ? opcode : 0, payload: payload.subarray(start, end), isFinal });
    start = end;
    return isFinal ? [one] : [one, between[n % Math.max(1, between.length)] ?? Buffer.alloc(0)];
  });
  return Buffer.concat(frames);
}
