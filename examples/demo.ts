/** The standalone gateway in front of a demo Automatic1111 that needs no GPU: `npm run demo`. */
import { createDemoA1111 } from './demo-backend.js';
import { startStandalone, stopOnSignals } from './standalone.js';

const backend = createDemoA1111();
try {
  const backendUrl = await backend.listen(0, '127.0.0.1');
  const dir = process.env.TRACKER_DIR || './demo-data';
  const gateway = await startStandalone({ ...process.env, A1111_URL: backendUrl, TRACKER_DIR: dir });
  stopOnSignals(async () => {
    await gateway.stop();
    await backend.close();
  });
  const { url } = gateway;
  console.log(`
sd-job-tracker listens on ${url}, in front of a demo Automatic1111 (${backendUrl}).

In another terminal, make a picture. It takes four seconds, but the head with its X-Job-ID is there at once:

  curl -sS -D - -o answer.json ${url}/sdapi/v1/txt2img \\
    -H 'Content-Type: application/json' -d '{"prompt": "a quiet bay at dusk", "steps": 20}'

Do it once more and press Ctrl-C in the middle: the job goes on all the same. See all jobs:

  curl -sS ${url}/sdapi/v1/jobs

Get a picture back, with its X-Job-ID in place of ID:

  curl -sS '${url}/sdapi/v1/job/ID?images=url'
  curl -sS -o picture.png ${url}/sdapi/v1/job/ID/images/0

All of it is kept in ${dir}, and is still there the next time. Ctrl-C here stops the gateway and the demo.
`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  await backend.close();
  process.exit(1);
}
