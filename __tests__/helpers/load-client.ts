import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Call, call } from './client.js';
import { NUMBER_HEADER } from './load-backend.js';
import type { PlannedRequest } from './load-plan.js';

/** What a client has seen of its answer. */
export interface ClientReport {
  readonly id?: string;
  readonly status?: number;
  /** The whole body; absent where the client left, or its connection broke. */
  readonly body?: Buffer;
}

/** Does what the script says; resolves to what the client has seen. Never rejects. */
export async function playClient(url: string, request: PlannedRequest): Promise<ClientReport> {
  const { client, body } = request;
  const withinBody = client === 'leaves within its body';
  const request_ = call(`${url}/sdapi/v1/txt2img`, {
    headers: {
      'Content-Type': 'application/json',
      // A client that is about to leave sends half of what it has announced.
      'Content-Length': withinBody ? body.length + 1 : body.length,
      'X-Forwarded-For': request.ip,
      [NUMBER_HEADER]: String(request.number),
    },
    method: 'POST',
    open: true,
    unread: client === 'reads slowly' || client === 'leaves within the answer',
  });
  if (withinBody) request_.request.write(body);
  else request_.request.end(body);
  const report: { -readonly [Name in keyof ClientReport]: ClientReport[Name] } = {};
  try {
    if (withinBody || client === 'leaves behind its body') {
      await sent(request_);
      leave(request_, request);
      return report;
    }
    const { status, headers } = await request_.head;
    report.status = status;
    const id = headers['x-job-id'];
    if (typeof id === 'string') report.id = id;
    if (client === 'leaves at the head') {
      leave(request_, request);
      return report;
    }
    if (client === 'leaves within the answer') {
      const incoming = await request_.incoming;
      incoming.resume();
      await Promise.race([once(incoming, 'data'), once(incoming, 'close')]);
      leave(request_, request);
      return report;
    }
    if (client === 'reads slowly') {
      await sleep(200);
      const incoming = await request_.incoming;
      incoming.on('data', (chunk: Buffer) => request_.received.push(chunk));
    }
    report.body = (await request_.answer).body;
  } catch {
    // The connection broke: whether it was right to is judged at the end.
  }
  return report;
}

function leave({ request }: Call, { byReset }: PlannedRequest): void {
  const { socket } = request;
  // A connection that is being ended can be reset no more: Node would forget about it and leave it open.
  if (byReset && socket && !socket.writableEnded) socket.resetAndDestroy();
  else request.destroy();
}

async function sent({ request }: Call): Promise<void> {
  if (!request.socket) await once(request, 'socket');
  if (request.socket?.connecting) await once(request.socket, 'connect');
  await sleep(2);
}
