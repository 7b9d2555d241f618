/* Says what it took to import express, and then the built package, whose URL it is given: milliseconds that passed, and of the processor. */
const express = await timed(() => import('express'));
const tracker = await timed(() => import(process.argv[2] as string));
console.log(JSON.stringify({ express, tracker }));

async function timed(load: () => Promise<unknown>): Promise<{ ms: number; cpuMs: number }> {
  const began = performance.now();
  const before = process.cpuUsage();
  await load();
  const { user, system } = process.cpuUsage(before);
  return { ms: performance.now() - began, cpuMs: (user + system) / 1000 };
}
