import { FAULTS } from './faults.js';

/** The page at `/`, where ComfyUI has its own. */
export function demoPage(): string {
  const rows = Object.entries(FAULTS).map(([word, what]) => `<tr><td><code>${word}</code><td>${what}`);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Demo ComfyUI</title>
<style>
  body { max-width: 42rem; margin: 3rem auto; padding: 0 1.25rem; font: 1rem/1.6 system-ui, sans-serif;
         color: light-dark(#1d2433, #e4e8f1); background: light-dark(#fbfbfd, #12151d); }
  code { font: .9em/1.5 ui-monospace, monospace; padding: .1rem .35rem; border-radius: .35rem;
         background: light-dark(#eef0f5, #1f2430); }
  td { padding: .15rem 1rem .15rem 0; }
  img { width: 9rem; border-radius: .35rem; margin: .25rem .5rem .25rem 0; }
</style>
<h1>Demo ComfyUI</h1>
<p>This is not ComfyUI, but it speaks as ComfyUI does, over HTTP and WebSocket, and needs no graphics card: it draws a
landscape for every prompt and seed.</p>
<p>Some words in a positive prompt make it fail, for trying out what happens then:</p>
<table>${rows.join('\n')}</table>
<h2>History</h2>
<div id="history">Nothing yet.</div>
<script type="module">
  const history = document.getElementById('history');
  async function load() {
    const entries = await (await fetch('api/history')).json();
    const ids = Object.keys(entries).reverse();
    if (ids.length === 0) return;
    history.replaceChildren(...ids.map((id) => {
      const { outputs, status } = entries[id];
      const entry = document.createElement('p');
      entry.append(id + ': ' + status.status_str, document.createElement('br'));
      const images = Object.values(outputs).flatMap((output) => output.images ?? []);
      for (const { filename, subfolder, type } of images) {
        const image = document.createElement('img');
        image.src = 'api/view?' + new URLSearchParams({ filename, subfolder, type });
        image.alt = filename;
        entry.append(image);
      }
      return entry;
    }));
  }
  load();
  setInterval(load, 5000);
</script>
</html>
`;
}
