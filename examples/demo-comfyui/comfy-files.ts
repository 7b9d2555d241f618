import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, normalize, relative, resolve, sep } from 'node:path';

/** ComfyUI's three folders of files. */
export const FOLDER_TYPES = ['output', 'input', 'temp'] as const;

export type FolderType = (typeof FOLDER_TYPES)[number];

/** Where files of one prefix go, and how they are numbered. */
export interface NumberedFiles {
  readonly subfolder: string;
  /** The number for the next file; it counts up with every call. */
  nextName(extension: string): string;
}

export function isFolderType(type: string): type is FolderType {
  return (FOLDER_TYPES as readonly string[]).includes(type);
}

/** The files on disk, which outlast a restart; all but those in `temp`. */
export class ComfyFiles {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = resolve(dir);
    for (const type of FOLDER_TYPES) mkdirSync(join(this.dir, type), { recursive: true });
    this.clearTemp();
  }

  clearTemp(): void {
    rmSync(join(this.dir, 'temp'), { recursive: true, force: true });
    mkdirSync(join(this.dir, 'temp'));
  }

  /** The path of a file; undefined where the subfolder leads out of the type's folder. */
  path(type: FolderType, subfolder: string, name: string): string | undefined {
    const root = join(this.dir, type);
    const folder = resolve(root, subfolder);
    if (folder !== root && !folder.startsWith(root + sep)) return undefined;
    return join(folder, basename(name));
  }

  /** What stands in the type's own folder, subfolders not counted. */
  list(type: FolderType): string[] {
    const entries = readdirSync(join(this.dir, type), { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isFile() ? [entry.name] : [])).sort();
  }

  /** The bytes of a file; undefined where there is none. */
  read(path: string): Buffer | undefined {
    return statSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path) : undefined;
  }

  write(path: string, bytes: Buffer): void {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }

  /** Numbers go on behind the highest that a file of the prefix has. Throws where it leads out of the folder. */
  numbered(type: FolderType, prefix: string): NumberedFiles {
    const normal = normalize(prefix);
    const subfolder = dirname(normal) === '.' ? '' : dirname(normal);
    const name = basename(normal);
    const folder = this.path(type, subfolder, '');
    if (folder === undefined) {
      throw new Error(`Saving outside the ${type} folder is not allowed: ${prefix}`);
    }
    let counter = highestCounter(folder, name);
    return {
      subfolder: relative(join(this.dir, type), folder),
      nextName: (extension) => {
        counter += 1;
        return `${name}_${String(counter).padStart(5, '0')}_.${extension}`;
      },
    };
  }
}

function highestCounter(folder: string, name: string): number {
  mkdirSync(folder, { recursive: true });
  const start = `${name}_`;
  const counters = readdirSync(folder).flatMap((file) => {
    if (!file.startsWith(start)) return [];
    return [Number.parseInt(file.slice(start.length), 10) || 0];
  });
  return Math.max(0, ...counters);
}
