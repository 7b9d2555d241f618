/** The standalone gateway in front of a demo A1111 that needs no GPU: `npm run demo`. */
import { createDemoA1111 } from './demo-backend.js';
import { startStandalone, stopOnSignals } from './standalone.js';

const backend = createDemoA1111();
try {
  const backendUrl = await backend.listen(0, '127.0.0.1');
  const gateway = await startStandalone({
    ...process.env,
    A1111_URL: backendUrl,
    TRACKER_DIR: process.env.TRACKER_DIR ?? './demo-data',
  });
  stopOnSignals(async () => {
    await backend.close();
    await gateway.stop();
  });
  const { url } = gateway;
  console.log(`
sd-job-tracker listens on ${url}, in front of a demo Automatic1111 (${backendUrl}).

Make a picture. It takes four seconds; the id is there at once:

  curl -i ${url}/sdapi/v1/txt2img -H 'Content-Type: application/json' -d '{"prompt": "a quiet bay at dusk", "steps": 20}'

Press Ctrl-C in the middle of it if you like: the job goes on. See what there is:

  curl ${url}/sdapi/v1/jobs

Get it back, with the id of your X-Job-ID in place of ID:

  curl ${url}/sdapi/v1/job/ID?images=url
  curl -o picture.png ${url}/sdapi/v1/job/ID/images/0

Ctrl-C here stops both.`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  await backend.close();
  process.exit(1);
}
