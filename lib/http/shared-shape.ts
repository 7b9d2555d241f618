import { versions } from 'node:process';

/** Later ones remember what an object becomes whose prototype is replaced. */
const LAST_V8_THAT_FORGETS = 12;
const NEEDED = Number.parseInt(versions.v8, 10) <= LAST_V8_THAT_FORGETS;
const STAYING = Symbol('staying');
const GOING = Symbol('going');

/**
 * Gives requests and responses that came through Express a hidden class that they share again.
 *
 * Express replaces the prototype of each, which in Node.js 20 and 22 leaves each with a hidden class of its own: V8 then
 * finds nothing in its inline caches, whatever is read or written from there on, here and in every handler behind. An
 * object that a property was deleted from becomes a dictionary, and those share one. It makes a small answer about a
 * third cheaper.
 */
export function shareShape(object: object): void {
  if (!NEEDED) return;
  const marked = object as Record<symbol, unknown>;
  marked[GOING] = undefined;
  // Only the deletion of a property that is not the last one does it.
  marked[STAYING] = undefined;
  delete marked[GOING];
}
