import { setTimeout as sleep } from 'node:timers/promises';
import { type CompiledProgram, listening, type ProgramProcess } from './compiled-program.js';
import { KillAudit } from './kill-audit.js';
import { KillLedger } from './kill-ledger.js';
import { type GatewayLife, KillLoad } from './kill-load.js';
import { seededRandom } from './seeded-random.js';

const CLIENTS = 24;
/** What the gateway may say of how its life before has ended. */
const EXPECTED_LOG =
  /^\[sd-job-tracker\] \d+ job\(s\) that were running when the gateway ended are now Failed \(interrupted\)/;

/** What had not been synced when the power failed may be torn: that is said, and the evidence is kept. */
const TORN_NAMES = /^jobs\.json\.journal\.corrupt-/;
const TORN_LOG = /^\[sd-job-tracker\] 1 damaged line in .*jobs\.json\.journal/;

export interface KillRoundsOptions {
  readonly rounds: number;
  readonly seed: number;
  /** The tracker's folder: all lives of the gateway use the same one. */
  readonly dir: string;
  readonly program: CompiledProgram;
  /** Takes the disk away just before the process dies, as a power cut does; and gives it back as it is then. */
  readonly disk?: { cut(): void; comeBack(): void };
}

export interface KillRoundsOutcome {
  /** What was not as promised, in sentences. */
  readonly violations: readonly string[];
  readonly counts: KillLedger['counts'];
  /** How many jobs have ended in which way. */
  readonly statuses: ReadonlyMap<string, number>;
}

/**
 * Lets a standalone gateway work for many clients, ends it with kill -9 at a random moment, starts it again on the same
 * folder, and compares what it keeps with what clients and backend have seen: so often.
 */
export async function runKillRounds(options: KillRoundsOptions): Promise<KillRoundsOutcome> {
  const { rounds, seed, dir, program, disk } = options;
  const random = seededRandom(seed);
  const ledger = new KillLedger();
  const load = new KillLoad(ledger, seededRandom(seed + 1));
  const audit = new KillAudit(ledger, dir, disk && TORN_NAMES);
  const backendUrl = await load.open();
  const start = () =>
    program.standalone({ PORT: '0', A1111_URL: backendUrl, TRACKER_DIR: dir, TRACKER_CONCURRENCY: '8' });
  let before = '-';
  let gateway: ProgramProcess | undefined;
  const end = async (process: ProgramProcess) => {
    disk?.cut();
    await process.kill();
    disk?.comeBack();
  };
  try {
    for (let round = 0; round < rounds; round += 1) {
      gateway = start();
      if (random.chance(0.2)) {
        await sleep(random.integer(100, 1000));
        await end(gateway);
        continue;
      }
      const url = await listening(gateway);
      await audit.run(url, before);
      const life: GatewayLife = { name: `${round}`, url, isOver: false, speaksTheTruthToItsEnd: !disk };
      const loaded = load.run(life, CLIENTS);
      // On a slow machine as much must happen as on a fast one.
      if (random.chance(0.8)) await load.answered(random.integer(1, 30));
      await sleep(random.integer(0, 200));
      checkLog(gateway, before, ledger, disk && TORN_LOG);
      life.isOver = true;
      await end(gateway);
      await loaded;
      before = life.name;
    }
    gateway = start();
    await audit.run(await listening(gateway), before, true);
    checkLog(gateway, before, ledger, disk && TORN_LOG);
  } finally {
    await gateway?.kill();
    await load.close();
  }
  return { violations: ledger.violations, counts: ledger.counts, statuses: audit.statuses };
}

function checkLog(
  { said }: ProgramProcess,
  life: string,
  ledger: KillLedger,
  torn: RegExp | undefined,
): void {
  for (const line of said.err.split('\n')) {
    const isExpected = line === '' || EXPECTED_LOG.test(line) || torn?.test(line) === true;
    ledger.expect(isExpected, () => `After life ${life} the gateway said: ${line}`);
  }
}
