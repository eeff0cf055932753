import type { Measured } from "../measure.ts";
import { type Metric, medianOf, metrics } from "./metrics.ts";

/** One bar: the parts lie one after the other. */
export interface Bar {
  readonly name: string;
  readonly parts: readonly number[];
}

export interface Chart {
  readonly title: string;
  readonly unit: string;
  /** What the parts of each bar are, in their order. */
  readonly legend: readonly string[];
  readonly bars: readonly Bar[];
}

/** CPU time of a call by variant: server, client, and the gateway where there is one. */
export function toCpuChart({ variants }: Measured, title: string): Chart {
  const parts: readonly Metric[] = [metrics.serverCpu, metrics.clientCpu, metrics.gatewayCpu];
  const bars = variants.map((variant) => ({
    name: variant.name,
    parts: parts.map((metric) => medianOf(variant, metric) ?? 0),
  }));
  const isUsed = (part: number) => bars.some((bar) => (bar.parts[part] ?? 0) > 0);
  return { title, unit: "µs", legend: parts.map(({ side }) => side).filter((_, part) => isUsed(part)), bars };
}

const WIDTH = 760;
const LEFT = 170;
/** For the numbers behind the longest bar. */
const RIGHT = 80;
const TOP = 72;
const BAR = 20;
const STEP = 30;
const BOTTOM = 14;

/** In the colours of the page around it, light or dark: nothing is drawn behind. */
const STYLE = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .part0 { fill: #2a78c2; }
  .part1 { fill: #e08a1e; }
  .part2 { fill: #7b61b5; }
  .axis { stroke: #8c959f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .part0 { fill: #58a6ff; }
    .part1 { fill: #f0a94b; }
    .part2 { fill: #b39ddb; }
  }`;

/** Lying bars as SVG, drawn to scale. */
export function toSvg({ title, unit, legend, bars }: Chart): string {
  const height = TOP + bars.length * STEP + BOTTOM;
  const longest = Math.max(1, ...bars.map(totalOf));
  const scale = (WIDTH - LEFT - RIGHT) / longest;
  const words = bars.map((bar) => `${bar.name} ${Math.round(totalOf(bar))} ${unit}`).join(", ");
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(`${title}: ${words}`)}">`,
    `<style>${STYLE}\n</style>`,
    `<text class="title" x="12" y="26">${escaped(title)}</text>`,
    ...legend.map((name, part) => toKey(name, part)),
    ...bars.map((bar, row) => toBar(bar, row, scale, unit)),
    `<line class="axis" x1="${LEFT}" y1="${TOP - 6}" x2="${LEFT}" y2="${height - BOTTOM}"/>`,
    "</svg>",
  ];
  return `${lines.join("\n")}\n`;
}

function toKey(name: string, part: number): string {
  const x = LEFT + part * 110;
  return `<rect class="part${part}" x="${x}" y="41" width="12" height="12"/><text x="${x + 18}" y="52">${escaped(name)}</text>`;
}

function toBar(bar: Bar, row: number, scale: number, unit: string): string {
  const y = TOP + row * STEP;
  let x = LEFT;
  const rects = bar.parts.map((part, index) => {
    const rect = `<rect class="part${index}" x="${x.toFixed(1)}" y="${y}" width="${(part * scale).toFixed(1)}" height="${BAR}"/>`;
    x += part * scale;
    return part > 0 ? rect : "";
  });
  const base = y + BAR / 2 + 5;
  return [
    `<text x="${LEFT - 10}" y="${base}" text-anchor="end">${escaped(bar.name)}</text>`,
    ...rects,
    `<text x="${(x + 8).toFixed(1)}" y="${base}">${Math.round(totalOf(bar))} ${escaped(unit)}</text>`,
  ].join("");
}

function totalOf({ parts }: Bar): number {
  return parts.reduce((sum, part) => sum + part, 0);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
