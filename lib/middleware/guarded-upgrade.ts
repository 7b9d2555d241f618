import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Express } from 'express';
import { type Identity, isRefusal, type Refusal } from '../auth/identity.js';
import { isForeign } from '../http/cross-origin.js';
import { refuseUpgrade } from '../http/error-answer.js';
import type { Forwarder } from '../http/forward.js';
import { originForm } from '../http/forward-headers.js';
import { offersHttp2, serveWithoutUpgrade } from '../http/plain-upgrade.js';
import type { Logger } from '../logger.js';

export interface GuardedUpgradeOptions {
  /** Never rejects. Absent where nobody is known by name. */
  readonly identify: ((req: IncomingMessage) => Promise<Identity | Refusal>) | undefined;
  /** Who forwards; undefined where the host does. `path` is the one below the mount, without the query. */
  readonly forwarderFor: (path: string) => Forwarder | undefined;
  /** The host's app, once it is known: it tells which proxies to trust with a caller's address. */
  readonly app: () => Express | undefined;
  readonly logger: Logger;
}

/**
 * For `server.on('upgrade', ...)`: Express never sees WebSockets.
 *
 * @returns true where the host is to forward. While a login is being checked it is false; the server's 'upgrade' event is
 * emitted once more for one that is right.
 */
export type Upgrade = (req: IncomingMessage, socket: Duplex, head: Buffer) => boolean;

export function guardedUpgrade({ identify, forwarderFor, app, logger }: GuardedUpgradeOptions): Upgrade {
  const letIn = new WeakSet<IncomingMessage>();
  let hasWarned = false;

  /** Whoever else hears of upgrades forwards them whatever is decided here. */
  const warnOfOthers = (socket: Duplex): void => {
    const { server } = socket as Socket & { server?: Server };
    if (hasWarned || !server || server.listenerCount('upgrade') < 2) return;
    hasWarned = true;
    logger.warn(
      'Expected one listener for upgrades, got more: WebSockets may pass without a login. ' +
        'With http-proxy-middleware, leave `ws: true` out and call its `upgrade` yourself',
    );
  };

  const judge = (req: IncomingMessage, socket: Duplex, head: Buffer, who: Identity | Refusal): void => {
    // It left meanwhile.
    if (socket.destroyed) return;
    const forwarder = forwarderFor(pathOf(req));
    if (isRefusal(who)) {
      refuseUpgrade(socket, who.status, who.error, who.headers);
    } else if (who.name === undefined && !who.isAdmin) {
      // No middleware of the host's has seen it.
      refuseUpgrade(socket, 403, 'Expected somebody who has logged in, got nobody');
    } else if (isForeign(req)) {
      // The browser has sent the login by itself.
      refuseUpgrade(socket, 403, 'Expected a page of this site, got one of another site');
    } else if (forwarder) {
      forwarder.upgrade(req, socket, head);
    } else {
      letIn.add(req);
      const { server } = socket as Socket & { server?: Server };
      if (server?.emit('upgrade', req, socket, head)) return;
      logger.error(
        'Expected the socket of an upgrade to belong to an HTTP server with a listener for upgrades',
      );
      refuseUpgrade(socket, 500, 'The gateway cannot forward this; its log says why');
    }
  };

  return (req, socket, head) => {
    // Its plain form goes through Express, and through all that is mounted there.
    if (offersHttp2(req)) {
      serveWithoutUpgrade(req, socket, head);
      return false;
    }
    if (!identify) {
      const forwarder = forwarderFor(pathOf(req));
      forwarder?.upgrade(req, socket, head);
      return forwarder === undefined;
    }
    if (letIn.has(req)) return true;
    warnOfOthers(socket);
    const known = app();
    // What Express does with every request, so that `req.ip` is there.
    if (known) Object.setPrototypeOf(req, known.request);
    // 'close' follows.
    socket.on('error', () => {});
    void identify(req).then((who) => judge(req, socket, head, who));
    return false;
  };
}

function pathOf(req: IncomingMessage): string {
  return originForm(req).replace(/\?.*/s, '');
}
