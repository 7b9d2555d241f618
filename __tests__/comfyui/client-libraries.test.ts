import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { CallWrapper, ComfyApi, PromptBuilder } from '@saintno/comfyui-sdk';
import { Client } from '@stable-canvas/comfyui-client';
import { WebSocket } from 'ws';
import { createDemoComfyUI, type DemoComfyUI } from '../../examples/demo-comfyui.js';
import { callComfy, standardWorkflow } from '../helpers/comfy-client.js';
import { type Gateway, startGateway } from '../helpers/gateway.js';
import { tempFolders } from '../helpers/temp-folder.js';

const newFolder = tempFolders();
let comfy: DemoComfyUI;
let gateway: Gateway;

beforeEach(async () => {
  comfy = createDemoComfyUI({ generationMs: 0 });
  gateway = await startGateway({ dir: await newFolder(), comfyui: await comfy.listen(), env: {} });
});
afterEach(async () => {
  await gateway.close();
  await comfy.close();
});

/** ComfyUI starts anew, and somebody has cleared its output folder. */
function forget(): void {
  comfy.restart();
  rmSync(join(comfy.dir, 'output'), { recursive: true });
}

test('@saintno/comfyui-sdk runs a prompt, and finds it and its image after a restart of ComfyUI', async () => {
  const api = new ComfyApi(gateway.url, 'saintno');
  const connected = once(comfy.state, 'connected');
  try {
    await api.init().waitForReady();
    await connected;
    const titled = Object.entries(standardWorkflow()).map(([id, node]) => [
      id,
      { ...node, _meta: { title: node.class_type } },
    ]);
    const workflow = Object.fromEntries(titled) as ConstructorParameters<typeof PromptBuilder>[0];
    const builder = new PromptBuilder(workflow, ['seed'], ['saved'])
      .setInputNode('seed', '3.inputs.seed')
      .setOutputNode('saved', '9')
      .input('seed', 21);
    const completed = once(gateway.tracker.events, 'completed');
    const result = await new CallWrapper(api, builder).run();
    if (!result) throw new Error('the client library says that it failed');
    const { images } = result.saved as { images: [Parameters<typeof api.getImage>[0]] };
    const [{ prompt_id: promptId }] = await completed;
    const before = await readBy(api, promptId, images[0]);
    expect(before[0]).toHaveProperty(promptId);
    api.destroy();
    forget();
    // Another one, because `destroy` does not end attempts to connect again.
    expect(await readBy(new ComfyApi(gateway.url), promptId, images[0])).toEqual(before);
  } finally {
    api.destroy();
  }
});

async function readBy(api: ComfyApi, promptId: string, image: Parameters<ComfyApi['getImage']>[0]) {
  const bytes = Buffer.from(await (await api.getImage(image)).arrayBuffer());
  return [await api.getHistories(), await api.getHistory(promptId), bytes.toString('base64')];
}

test('@stable-canvas/comfyui-client runs a prompt, and finds it and its image after a restart of ComfyUI', async () => {
  const client = new Client({ api_host: new URL(gateway.url).host, clientId: 'canvas', WebSocket, fetch });
  const connected = once(comfy.state, 'connected');
  client.connect();
  try {
    await connected;
    const completed = once(gateway.tracker.events, 'completed');
    const polled = await client.enqueue_polling(standardWorkflow(), { polling_ms: 10 });
    const [{ prompt_id: promptId }] = await completed;
    const bytes = async () => (await callComfy(String(polled.images[0]?.data))).body.toString('base64');
    const before = [await client.getPromptResult(promptId), await client.getHistory(10), await bytes()];
    expect(JSON.stringify(before[1])).toContain(promptId);
    forget();
    expect([await client.getPromptResult(promptId), await client.getHistory(10), await bytes()]).toEqual(
      before,
    );
  } finally {
    client.close();
  }
});
