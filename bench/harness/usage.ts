import { readdirSync, readFileSync } from 'node:fs';

/** What a process has used up so far, and holds now. */
export interface Usage {
  /** User and system time together. */
  readonly cpuMs: number;
  readonly rssBytes: number;
  /** The most that was ever resident. */
  readonly peakBytes: number;
  /** Open files and sockets; 0 where the system does not tell. */
  readonly descriptors: number;
}

export function ownUsage(): Usage {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  return {
    cpuMs: (userCPUTime + systemCPUTime) / 1000,
    rssBytes: process.memoryUsage.rss(),
    // What a process was forked from counts as its own in `maxRSS`, on Linux.
    peakBytes: peakFromProc() ?? maxRSS * 1024,
    descriptors: countDescriptors(),
  };
}

function peakFromProc(): number | undefined {
  try {
    const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'));
    return found ? Number(found[1]) * 1024 : undefined;
  } catch {
    return undefined;
  }
}

function countDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 0;
  }
}
