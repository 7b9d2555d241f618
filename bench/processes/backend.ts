import { once } from 'node:events';
import { type Answer, type AnswerShape, makeAnswer } from '../harness/answer.js';
import { serveParent } from '../harness/remote.js';
import { listen } from './listen.js';

/*
 * A backend that takes no time to generate: every request is answered with the same answer, which the parent chooses.
 */
let answer: Answer = makeAnswer({ images: 0, imageBytes: 0 });

serveParent({
  answerWith(shape: AnswerShape) {
    answer = makeAnswer(shape);
    return answer.sizeBytes;
  },
});

await listen(async (req, res) => {
  req.resume();
  await once(req, 'end');
  res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.sizeBytes });
  for (const part of answer.parts) {
    if (res.destroyed) return;
    if (!res.write(part)) await Promise.race([once(res, 'drain'), once(res, 'close')]);
  }
  res.end();
});
