import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { writeAll } from '../disk/durable-fs.js';
import { type RequestHead, requestHead } from './request-head.js';

/*
 * A line of JSON, then the body as it came. The line begins with the body's length and a CRC-32 of all that stands
 * behind the two. Both are known only at the end, so there is room for them: a file that was not finished is no JSON.
 */
const START = '{"body_bytes":';
const BETWEEN = ',"crc32":';
const NUMBER_LENGTH = 16;
const PREFIX_LENGTH = START.length + NUMBER_LENGTH + BETWEEN.length + NUMBER_LENGTH;
const MAX_HEAD_BYTES = 256 * 1024;
const PIECE_BYTES = 256 * 1024;
const GATHER_BYTES = 64 * 1024;

/** Zero on systems that lack it. */
const NO_FOLLOW = constants.O_NOFOLLOW ?? 0;

/** Writes a request into an empty file. Rejects with the system's error, with the body's, or where the head is none. */
export async function writeRequest(
  file: FileHandle,
  head: RequestHead,
  body: AsyncIterable<Buffer>,
): Promise<void> {
  if (!requestHead(head)) throw new Error('it has a head that could not be sent again');
  const line = Buffer.from(`,"request":${JSON.stringify(head)}}\n`);
  if (PREFIX_LENGTH + line.length > MAX_HEAD_BYTES) throw new Error('its head is too large');
  let checksum = crc32(line);
  let bodyBytes = 0;
  let gathered: Buffer[] = [line];
  let gatheredBytes = line.length;
  let isBegun = false;
  for await (const chunk of body) {
    checksum = crc32(chunk, checksum);
    bodyBytes += chunk.length;
    gathered.push(chunk);
    gatheredBytes += chunk.length;
    if (gatheredBytes < GATHER_BYTES) continue;
    await writeAll(file, Buffer.concat(isBegun ? gathered : [prefix('', ''), ...gathered]));
    isBegun = true;
    gathered = [];
    gatheredBytes = 0;
  }
  // A small request is written in one go.
  if (!isBegun) gathered.unshift(prefix(bodyBytes, checksum));
  await writeAll(file, Buffer.concat(gathered));
  if (isBegun) await writeAt(file, prefix(bodyBytes, checksum), 0);
}

function prefix(bodyBytes: number | '', checksum: number | ''): Buffer {
  const numbers = [bodyBytes, checksum].map((number) => String(number).padStart(NUMBER_LENGTH));
  return Buffer.from(`${START}${numbers[0]}${BETWEEN}${numbers[1]}`);
}

async function writeAt(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/** A request that was kept, open until `close`, whatever becomes of its name in the meantime. */
export class RequestFile {
  readonly head: RequestHead;
  readonly bodyBytes: number;
  readonly #file: FileHandle;
  readonly #bodyStart: number;

  private constructor(file: FileHandle, head: RequestHead, bodyStart: number, bodyBytes: number) {
    this.#file = file;
    this.head = head;
    this.#bodyStart = bodyStart;
    this.bodyBytes = bodyBytes;
  }

  /** Reads all of the file once. Rejects where there is none, or where it is not what was written. */
  static async open(path: string): Promise<RequestFile> {
    // Looked at first, because to open a pipe is to wait for whoever writes to it.
    if (!(await lstat(path)).isFile()) throw new Error('it is not a regular file');
    const file = await open(path, constants.O_RDONLY | NO_FOLLOW);
    try {
      return await RequestFile.#read(file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  static async #read(file: FileHandle): Promise<RequestFile> {
    const { size } = await file.stat();
    const first = await readPiece(file, 0, Math.min(size, MAX_HEAD_BYTES));
    const bodyStart = first.indexOf('\n') + 1;
    if (bodyStart === 0) throw new Error('it has no head');
    const { body_bytes, crc32: written, request } = JSON.parse(first.toString('utf8', 0, bodyStart));
    const head = requestHead(request);
    const isWhole = bodyStart + body_bytes === size && first.indexOf(prefix(body_bytes, written)) === 0;
    if (!head || !isWhole) throw new Error('its head is damaged, or it was cut');
    let checksum = 0;
    for await (const piece of pieces(file, PREFIX_LENGTH, size)) checksum = crc32(piece, checksum);
    if (checksum !== written) throw new Error('its bytes are not those that were written');
    return new RequestFile(file, head, bodyStart, body_bytes);
  }

  /** The body, each time from its beginning. Throws where it cannot be read to its end. */
  chunks(): AsyncGenerator<Buffer, void> {
    return pieces(this.#file, this.#bodyStart, this.#bodyStart + this.bodyBytes);
  }

  /** May be called twice. */
  async close(): Promise<void> {
    await this.#file.close();
  }
}

async function* pieces(file: FileHandle, start: number, end: number): AsyncGenerator<Buffer, void> {
  for (let at = start; at < end; ) {
    const piece = await readPiece(file, at, Math.min(PIECE_BYTES, end - at));
    if (piece.length === 0) throw new Error(`Expected a kept request of ${end} bytes, found ${at}`);
    yield piece;
    at += piece.length;
  }
}

async function readPiece(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
