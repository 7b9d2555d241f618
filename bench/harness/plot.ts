export interface Panel {
  readonly title: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Plot {
  readonly title: string;
  readonly xTitle: string;
  /** One below the other, with a common x axis. */
  readonly panels: readonly Panel[];
}

const WIDTH = 800;
const PANEL_HEIGHT = 130;
const LEFT = 70;
const RIGHT = 20;
const TOP = 40;
const GAP = 34;

/** Draws lines over time, each from zero, as an SVG. */
export function plotSvg({ title, xTitle, panels }: Plot): string {
  const height = TOP + panels.length * (PANEL_HEIGHT + GAP) + 20;
  const longest = Math.max(1e-9, ...panels.flatMap(({ points }) => points.map(([x]) => x)));
  const drawn = panels.map((panel, n) => drawPanel(panel, TOP + n * (PANEL_HEIGHT + GAP), longest));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${LEFT}" y="20" font-size="15">${escaped(title)}</text>`,
    ...drawn,
    `<text x="${WIDTH - RIGHT}" y="${height - 8}" text-anchor="end">${longest.toFixed(1)} ${escaped(xTitle)}</text>`,
    '</svg>\n',
  ].join('\n');
}

function drawPanel({ title, points }: Panel, top: number, longest: number): string {
  const most = Math.max(1e-9, ...points.map(([, y]) => y)) * 1.1;
  const bottom = top + GAP / 2 + PANEL_HEIGHT;
  const place = ([x, y]: readonly [number, number]) =>
    [LEFT + (x / longest) * (WIDTH - LEFT - RIGHT), bottom - (y / most) * PANEL_HEIGHT]
      .map((coordinate) => coordinate.toFixed(1))
      .join(',');
  return [
    `<text x="${LEFT}" y="${top + 10}">${escaped(title)}</text>`,
    `<path d="M${LEFT},${bottom - PANEL_HEIGHT}V${bottom}H${WIDTH - RIGHT}" fill="none" stroke="#888"/>`,
    `<text x="${LEFT - 6}" y="${bottom}" text-anchor="end">0</text>`,
    `<text x="${LEFT - 6}" y="${bottom - PANEL_HEIGHT + 10}" text-anchor="end">${most.toPrecision(3)}</text>`,
    `<polyline points="${points.map(place).join(' ')}" fill="none" stroke="#1565c0"/>`,
  ].join('\n');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
