import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { toCpuChart, toSvg } from "./chart.ts";
import { measuredVariant, round, smallUnary } from "./test-support.ts";

const widths = (svg: string, part: number) =>
  [...svg.matchAll(new RegExp(`class="part${part}" x="[\\d.]+" y="\\d+" width="([\\d.]+)" height="20"`, "g"))].map(
    ([, width]) => Number(width),
  );

describe("the chart", () => {
  const step = smallUnary(measuredVariant("raw", [round(30, 40)]), measuredVariant("stock", [round(210, 200)]));

  test("draws the sides of a variant one after the other, to scale", () => {
    const svg = toSvg(toCpuChart(step, "CPU"));
    const [[rawServer, stockServer], [rawClient, stockClient]] = [widths(svg, 0), widths(svg, 1)];
    assert.ok(Math.abs(stockServer! / rawServer! - 7) < 0.05);
    assert.ok(Math.abs(stockClient! / rawClient! - 5) < 0.05);
    assert.match(svg, />70 µs</);
    assert.match(svg, />410 µs</);
  });

  test("names a gateway only when there is one", () => {
    assert.deepEqual(toCpuChart(step, "CPU").legend, ["server", "client"]);
    const withGateway = smallUnary(measuredVariant("meridian-gateway", [round(1, 1, 2)]));
    assert.deepEqual(toCpuChart(withGateway, "CPU").legend, ["server", "client", "gateway"]);
  });

  test("has colours of its own for a dark page", () => {
    assert.match(toSvg(toCpuChart(step, "CPU")), /@media \(prefers-color-scheme: dark\)/);
  });

  test("escapes what it is given", () => {
    const svg = toSvg({ title: 'a <b> & "c"', unit: "µs", legend: ["<"], bars: [{ name: "<&>", parts: [1] }] });
    assert.doesNotMatch(svg, /<b>|<&>| & /);
    assert.match(svg, /&lt;&amp;&gt;/);
  });

  test("draws nothing out of its frame when there is nothing to draw", () => {
    assert.doesNotMatch(toSvg({ title: "", unit: "µs", legend: [], bars: [] }), /NaN|Infinity/);
  });
});
