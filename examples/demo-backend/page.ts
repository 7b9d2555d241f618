import { FAULTS } from './faults.js';

/** The page at `/`, where A1111 has its own. */
export function demoPage(): string {
  const rows = Object.entries(FAULTS).map(([word, what]) => `<tr><td><code>${word}</code><td>${what}`);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Demo backend</title>
<style>
  body { max-width: 42rem; margin: 3rem auto; padding: 0 1.25rem; font: 1rem/1.6 system-ui, sans-serif;
         color: light-dark(#1d2433, #e4e8f1); background: light-dark(#fbfbfd, #12151d); }
  code, pre { font: .9em/1.5 ui-monospace, monospace; background: light-dark(#eef0f5, #1f2430); border-radius: .35rem; }
  code { padding: .1rem .35rem; }
  pre { padding: .8rem 1rem; overflow-x: auto; }
  td { padding: .15rem 1rem .15rem 0; }
</style>
<h1>Demo backend</h1>
<p>This is not Automatic1111, but it answers as Automatic1111 with <code>--api</code> does, and needs no graphics card:
it draws a landscape for every prompt and seed. A word such as <em>night</em>, <em>snow</em> or <em>lake</em> is heeded.</p>
<pre>POST /sdapi/v1/txt2img
Content-Type: application/json

{"prompt": "a lake at night", "steps": 20}</pre>
<p>Some words in a prompt make it fail, for trying out what happens then:</p>
<table>${rows.join('\n')}</table>
</html>
`;
}
