/** The standalone gateway in front of a demo Automatic1111 and a demo ComfyUI, which need no GPU: `npm run demo`. */
import { createDemoA1111 } from './demo-backend.js';
import { createDemoComfyUI } from './demo-comfyui.js';
import { startStandalone, stopOnSignals } from './standalone.js';

const a1111 = createDemoA1111();
const comfyui = createDemoComfyUI();
const closeBackends = async () => {
  await Promise.all([a1111.close(), comfyui.close()]);
};
try {
  const [a1111Url, comfyuiUrl] = await Promise.all([a1111.listen(), comfyui.listen()]);
  const dir = process.env.TRACKER_DIR || './demo-data';
  const gateway = await startStandalone({
    ...process.env,
    A1111_URL: a1111Url,
    COMFYUI_URL: comfyuiUrl,
    TRACKER_DIR: dir,
  });
  stopOnSignals(async () => {
    await gateway.stop();
    await closeBackends();
  });
  const { url } = gateway;
  console.log(`
sd-job-tracker listens on ${url}, in front of a demo Automatic1111 (${a1111Url})
and a demo ComfyUI (${comfyuiUrl}). Open ${url}/job-tracker to see what happens.

In another terminal, make a picture. It takes four seconds, but the head with its X-Job-ID is there at once:

  curl -sS -D - -o answer.json ${url}/sdapi/v1/txt2img \\
    -H 'Content-Type: application/json' -d '{"prompt": "a quiet bay at dusk", "steps": 20}'

Do it once more and press Ctrl-C in the middle: the job goes on all the same. Do it a third time: it is the answer that
you have just missed, and nothing is generated anew. See all jobs:

  curl -sS ${url}/sdapi/v1/jobs

Get a picture back, with its X-Job-ID in place of ID:

  curl -sS '${url}/sdapi/v1/job/ID?images=url'
  curl -sS -o picture.png ${url}/sdapi/v1/job/ID/images/0

The same with ComfyUI, whose history is still there when it has been restarted:

  curl -sS -D - ${url}/prompt -d @examples/demo-workflow.json
  curl -sS ${url}/history

All of it is kept in ${dir}, and is still there the next time. Ctrl-C here stops the gateway and the demo.
`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  await closeBackends();
  process.exit(1);
}
