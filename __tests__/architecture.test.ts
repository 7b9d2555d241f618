import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const lib = resolve(import.meta.dirname, '../lib');

/**
 * The floors of the house, the lowest first. A file imports from its own room, if it is in one, and from the floors
 * below; rooms on the same floor do not know each other.
 */
const floors: readonly (readonly string[])[] = [
  ['errors.ts', 'logger.ts', 'job.ts', 'job-id.ts', 'in-parallel.ts', 'value-kind.ts', 'at-most.ts'],
  ['json/', 'disk/', 'option-checks.ts'],
  ['http/', 'images/', 'stores/', 'auth/'],
  ['backends/', 'environment.ts', 'readiness.ts', 'settings.ts'],
  ['jobs/', 'options.ts'],
  ['gateway-backends.ts', 'health.ts'],
  ['create-backends.ts', 'retention/', 'comfyui/', 'live/'],
  ['generation/'],
  ['logins.ts', 'middleware/', 'routes/'],
  ['tracker-parts.ts', 'tracker-interface.ts'],
  ['job-tracker.ts'],
  ['index.ts'],
];

const files = readdirSync(lib, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.replaceAll('\\', '/'));

/** Type imports count: who needs a shape depends on where it is. */
function importsOf(file: string): string[] {
  const source = readFileSync(join(lib, file), 'utf8');
  return [
    ...source.matchAll(/(?:^|\n)\s*(?:import|export)\b[^;]*?\bfrom\s+'([^']+)'|\bimport\('([^']+)'\)/g),
  ].map((match) => (match[1] ?? match[2]) as string);
}

function localImportsOf(file: string): string[] {
  return importsOf(file)
    .filter((target) => target.startsWith('.'))
    .map((target) =>
      relative(lib, resolve(lib, dirname(file), target.replace(/\.js$/, '.ts'))).replaceAll('\\', '/'),
    );
}

const roomOf = (file: string) => (file.includes('/') ? `${file.split('/')[0]}/` : file);
const floorOf = (file: string) => floors.findIndex((rooms) => rooms.includes(roomOf(file)));

describe('the library', () => {
  test('there is something to look at', () => {
    expect(files.length).toBeGreaterThan(30);
    expect(files.flatMap(localImportsOf).length).toBeGreaterThan(80);
  });

  test.each(files)('%s has its place, and imports only from below', (file) => {
    expect(floorOf(file)).toBeGreaterThanOrEqual(0);
    const upwards = localImportsOf(file).filter(
      (target) => roomOf(target) !== roomOf(file) && floorOf(target) >= floorOf(file),
    );
    expect(upwards).toEqual([]);
    expect(localImportsOf(file).filter((target) => !files.includes(target))).toEqual([]);
  });

  test('no imports go in a circle', () => {
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (file: string, path: readonly string[]) => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      if (done.has(file) || path.includes(file)) return;
      for (const target of localImportsOf(file)) visit(target, [...path, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
    expect(circles).toEqual([]);
  });

  test('only the top floors know Express', () => {
    const top = floors.slice(floors.findIndex((rooms) => rooms.includes('middleware/'))).flat();
    const knowing = files.filter((file) => importsOf(file).includes('express'));
    expect(knowing.length).toBeGreaterThan(0);
    expect(knowing.filter((file) => !top.includes(roomOf(file)))).toEqual([]);
  });

  test('nothing happens at import: no listener on the process, no switch by NODE_ENV', () => {
    for (const file of files) {
      const source = readFileSync(join(lib, file), 'utf8');
      expect(source).not.toMatch(/process\.(on|once|addListener)\(|NODE_ENV/);
    }
  });
});
