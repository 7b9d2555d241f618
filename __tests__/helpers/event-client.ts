import { StringDecoder } from 'node:string_decoder';
import { type Call, call } from './client.js';

/** A server-sent event as it came. */
export interface SentEvent {
  readonly event: string;
  readonly id: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the server sent
  readonly data: any;
}

export interface EventClient extends Call {
  /** All events that have come so far. */
  readonly events: readonly SentEvent[];
  /** What has come, as text. */
  readonly text: string;
  /** What the next connection has to give as its `Last-Event-ID`. */
  readonly lastEventId: string | undefined;
  /** Resolves to the first event, from now on or of those that no `next` has passed, that matches. */
  next(matches: (event: SentEvent) => boolean): Promise<SentEvent>;
  /** Resolves once the text matches. */
  until(pattern: RegExp): Promise<void>;
  /** Resolves when the stream has ended, well or not. */
  readonly ended: Promise<void>;
}

/** A client of server-sent events that reads as an EventSource does (HTML standard, "Interpreting an event stream"). */
export function openEvents(url: string, headers: Record<string, string> = {}): EventClient {
  const made = call(url, { headers });
  const events: SentEvent[] = [];
  const decoder = new StringDecoder('utf8');
  const wakers: (() => void)[] = [];
  let text = '';
  let rest = '';
  let passed = 0;
  let lastEventId: string | undefined;
  let isOver = false;
  const wake = () => {
    for (const waker of wakers.splice(0)) waker();
  };
  const change = () => new Promise<void>((resolve) => wakers.push(resolve));
  const parse = () => {
    for (let end = rest.indexOf('\n\n'); end !== -1; end = rest.indexOf('\n\n')) {
      const fields = rest
        .slice(0, end)
        .split('\n')
        .filter((line) => !line.startsWith(':'))
        .map((line) => /^([^:]*):? ?(.*)$/s.exec(line)?.slice(1) as [string, string]);
      rest = rest.slice(end + 2);
      const value = (name: string) => fields.find(([field]) => field === name)?.[1];
      lastEventId = value('id') ?? lastEventId;
      const data = value('data');
      if (data) events.push({ event: value('event') ?? 'message', id: value('id'), data: JSON.parse(data) });
    }
  };
  const ended = made.answer.then(
    () => {},
    () => {},
  );
  void ended.then(() => {
    isOver = true;
    wake();
  });
  made.incoming.then(
    (incoming) =>
      incoming.on('data', (chunk: Buffer) => {
        const part = decoder.write(chunk);
        text += part;
        rest += part;
        parse();
        wake();
      }),
    () => {},
  );
  return {
    ...made,
    events,
    ended,
    get text() {
      return text;
    },
    get lastEventId() {
      return lastEventId;
    },
    async next(matches) {
      for (;;) {
        const at = events.findIndex((event, index) => index >= passed && matches(event));
        if (at !== -1) {
          passed = at + 1;
          return events[at] as SentEvent;
        }
        if (isOver) throw new Error(`The stream has ended: ${text}`);
        await change();
      }
    },
    async until(pattern) {
      while (!pattern.test(text)) {
        if (isOver) throw new Error(`Expected ${pattern}, got ${text}`);
        await change();
      }
    },
  };
}

/** For `next`: a status event of a job. */
export const statusOf =
  (id: string, status?: string) =>
  ({ event, data }: SentEvent): boolean =>
    event === 'status' && data.id === id && (status === undefined || data.status === status);
