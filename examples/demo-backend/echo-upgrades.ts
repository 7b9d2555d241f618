import type { IncomingMessage, Server } from 'node:http';
import { WebSocketServer } from 'ws';

/**
 * Accepts WebSockets at one path and sends back what comes; other paths are refused with 403, as by uvicorn. It
 * stands where Gradio's own queue would be.
 */
export function echoUpgrades(
  server: Server,
  path: string,
  onUpgrade: (req: IncomingMessage) => void,
): { close(): void } {
  const sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (req, socket, head) => {
    onUpgrade(req);
    // a client that breaks off is no error of the server
    socket.on('error', () => socket.destroy());
    if (req.url?.split('?', 1)[0] !== path) {
      const refusal = 'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n';
      socket.end(refusal, () => socket.destroy());
      return;
    }
    sockets.handleUpgrade(req, socket, head, (webSocket) => {
      webSocket.on('message', (data, isBinary) => webSocket.send(data, { binary: isBinary }));
      webSocket.on('error', () => webSocket.terminate());
    });
  });
  return {
    close() {
      for (const webSocket of sockets.clients) webSocket.terminate();
      sockets.close();
    },
  };
}
