import { Agent, request } from 'undici';
import { serveParent } from '../harness/remote.js';
import { quantile } from '../harness/statistics.js';
import { sayReady } from './listen.js';

/* Sends generation requests at a constant rate, whether or not those before have been answered. Arguments: where to, how many a second. */
const [url = '', perSecond = ''] = process.argv.slice(2);
const dispatcher = new Agent({ connections: 64, headersTimeout: 0, bodyTimeout: 0 });
let timesMs: number[] = [];
let failures: string[] = [];
let open = 0;
let seed = 0;
let timer: NodeJS.Timeout | undefined;

/** What has happened since one last asked. */
export interface SteadySample {
  readonly answered: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly failures: readonly string[];
  readonly open: number;
}

serveParent({
  start() {
    const began = performance.now();
    let sent = 0;
    timer = setInterval(() => {
      const due = ((performance.now() - began) / 1000) * Number(perSecond);
      for (; sent < due; sent += 1) void send();
    }, 5);
  },

  stop: () => clearInterval(timer),

  sample(): SteadySample {
    const [times, failed] = [timesMs, failures];
    timesMs = [];
    failures = [];
    const of = (q: number) => (times.length === 0 ? 0 : quantile(times, q));
    return { answered: times.length, p50Ms: of(0.5), p99Ms: of(0.99), failures: failed, open };
  },
});

async function send(): Promise<void> {
  seed += 1;
  open += 1;
  const sent = performance.now();
  try {
    const answer = await request(`${url}/sdapi/v1/txt2img`, {
      dispatcher,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'a quiet bay at dusk', steps: 20, seed }),
    });
    await answer.body.dump({ limit: Number.POSITIVE_INFINITY });
    if (answer.statusCode !== 200) failures.push(String(answer.statusCode));
    timesMs.push(performance.now() - sent);
  } catch (error) {
    failures.push(String(error));
  } finally {
    open -= 1;
  }
}

sayReady();
