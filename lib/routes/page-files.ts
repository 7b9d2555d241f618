import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';

/** They stand beside this code, in the sources and in the package alike. */
const FOLDER = new URL('../page/', import.meta.url);

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml; charset=utf-8',
};

export interface PageFile {
  readonly type: string;
  readonly etag: string;
  readonly content: Buffer;
}

/** The files of the page: a few small ones, read when the first is asked for and kept. */
export class PageFiles {
  #files: Promise<ReadonlyMap<string, PageFile>> | undefined;

  /**
   * Undefined where the page has no such file: no text from a client becomes a path. Rejects with the system's error where
   * the files cannot be read, and tries again the next time.
   */
  async get(name: string): Promise<PageFile | undefined> {
    this.#files ??= readFiles().catch((error: unknown) => {
      this.#files = undefined;
      throw error;
    });
    return (await this.#files).get(name);
  }
}

async function readFiles(): Promise<ReadonlyMap<string, PageFile>> {
  const names = await readdir(FOLDER);
  const files = await Promise.all(
    names.map(async (name): Promise<[string, PageFile] | undefined> => {
      const type = TYPES[name.slice(name.lastIndexOf('.') + 1)];
      if (type === undefined) return undefined;
      const content = await readFile(new URL(name, FOLDER));
      const hash = createHash('sha256').update(content).digest('base64url');
      return [name, { type, content, etag: `"${hash.slice(0, 22)}"` }];
    }),
  );
  return new Map(files.filter((file) => file !== undefined));
}
