import { readdirSync } from 'node:fs';
import { FileImageStore } from '../../lib/images/file-image-store.js';

/** Writes more than a file may hold, and prints what came of each step and what is left in the folder. */
const [folder = ''] = process.argv.slice(2);
const store = new FileImageStore({ folder, logger: console });
await store.open();
const writer = await store.create('day/too-large');

async function outcomeOf(step: Promise<unknown>): Promise<string> {
  try {
    await step;
    return 'done';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const outcomes = [
  await outcomeOf(writer.write(Buffer.alloc(600_000))),
  await outcomeOf(writer.write(Buffer.alloc(600_000))),
  await outcomeOf(writer.write(Buffer.alloc(1))),
  await outcomeOf(writer.finish('png')),
  await outcomeOf(writer.discard()),
];
process.stdout.write(JSON.stringify({ outcomes, left: readdirSync(folder, { recursive: true }) }));
