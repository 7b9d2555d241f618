/* Says how long it took to import express, and then the package. */
const began = performance.now();
await import('express');
const between = performance.now();
await import('../../lib/index.js');
const ended = performance.now();
console.log(JSON.stringify({ expressMs: between - began, trackerMs: ended - between }));
