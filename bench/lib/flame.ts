// A flame graph as one self-contained SVG in an HTML page: width is time, each box stands on its caller; a pointer over a
// box shows its full name and share. No script, no outside asset.

import { escape } from './html.ts';
import type { StackNode } from './profile.ts';

const width = 1_400;
const rowHeight = 17;
const widthMin = 1;
const depthMax = 60;

export function flamePage(title: string, root: StackNode): string {
  const boxes: string[] = [];
  let depth = 0;
  const draw = (node: StackNode, x: number, level: number): void => {
    if (level > depthMax) return;
    depth = Math.max(depth, level);
    const size = (node.micros / root.micros) * width;
    const share = ((node.micros / root.micros) * 100).toFixed(1);
    const letters = Math.floor(size / 6.2);
    const label = letters < 4 ? '' : `<text x="${(x + 3).toFixed(1)}" y="${level * rowHeight + 12}">${escape(node.name.slice(0, letters))}</text>`;
    boxes.push(`<g><title>${escape(node.name)} — ${share} %</title><rect x="${x.toFixed(1)}" y="${level * rowHeight}" width="${Math.max(0.5, size - 0.5).toFixed(1)}" height="${rowHeight - 1}" fill="${colourOf(node.name)}"/>${label}</g>`);
    let at = x;
    for (const child of [...node.children.values()].sort((a, b) => b.micros - a.micros)) {
      const childSize = (child.micros / root.micros) * width;
      if (childSize >= widthMin) draw(child, at, level + 1);
      at += childSize;
    }
  };
  draw(root, 0, 0);
  const height = (depth + 1) * rowHeight;
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title><style>body{font:14px system-ui,sans-serif;margin:1rem;color:#111;background:#fff}svg{width:100%;height:auto}svg text{font:10.5px ui-monospace,monospace;fill:#111;pointer-events:none}</style></head><body>
<h1>${escape(title)}</h1><p>${(root.micros / 1_000).toFixed(0)} ms of work in the busiest thread; idle time left out. Callers above, callees below.</p>
<svg viewBox="0 0 ${width} ${height}" role="img">${boxes.join('\n')}</svg></body></html>\n`;
}

/** Ours warm, Node's own blue, native grey. */
function colourOf(name: string): string {
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 30, 7);
  if (name.includes(' node:')) return `hsl(${200 + hue} 60% 78%)`;
  return name.includes('/') ? `hsl(${15 + hue} 85% 70%)` : 'hsl(0 0% 80%)';
}
