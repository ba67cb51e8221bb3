import { describe, expect, it } from "vitest";
import { costTable, curvesOf, drawCurves } from "../../bench/curves.ts";
import type { Point } from "../../bench/bench.ts";
import type { Result } from "../../bench/report.ts";

const result = (seconds: number, point: Partial<Point> & Pick<Point, "size">): Result => ({
  name: `scaling/${point.size}`,
  device: "cpu",
  value: 10,
  unit: "tokens/s",
  seconds,
  fastest: seconds,
  slowest: seconds,
  repetitions: 1,
  point: { axis: "rows", line: "decode", of: "step", count: 2, linear: 1, ...point },
});

const results = [
  result(0.004, { size: 1 }),
  result(0.032, { size: 16, note: "half of it waiting" }),
  result(0.008, { size: 4 }),
  result(0.02, { size: 1, axis: "threads", line: "training <small>", count: 1, linear: -1 }),
  result(0.0125, { size: 2, axis: "threads", line: "training <small>", count: 1, linear: -1 }),
  result(1, { size: 5, line: "one point only" }),
];

describe("curves of the bench", () => {
  it("are the points of a line by size, with the cost of one of what is counted", () => {
    const [rows, threads, ...others] = curvesOf(results);
    expect(others).toEqual([]);
    expect(rows?.points.map(({ size, cost }) => [size, cost])).toEqual([
      [1, 0.002],
      [4, 0.004],
      [16, 0.016],
    ]);
    expect(threads).toMatchObject({ axis: "threads", linear: -1 });
  });

  it("are told as a table: the cost, how it grew, and what linear cost would have grown by", () => {
    const [rows, threads] = curvesOf(results).map(costTable);
    expect(rows?.split("\n").map((line) => line.trim().split(/ {2,}/))).toEqual([
      ["decode, over rows:"],
      ["rows", "a step", "grown", "linear", "rate"],
      ["1", "2 ms", "x 1", "x 1", "10 tokens/s"],
      ["4", "4 ms", "x 2", "x 4", "10 tokens/s"],
      ["16", "16 ms", "x 8", "x 16", "10 tokens/s", "half of it waiting"],
    ]);
    expect(threads).toMatch(/2 {2}12\.5 ms {2}x 0\.625 {2} +x 0\.5/);
  });

  it("are drawn on logarithmic axes: a straight line is a power, linear cost is dashed, words are escaped", () => {
    const svg = drawCurves(curvesOf(results));
    const lines = [...svg.matchAll(/<polyline points="([^"]+)"[^>]*?(stroke-dasharray)?[^>]*\/>/g)].map(([text, points = ""]) => ({
      dashed: text.includes("stroke-dasharray"),
      points: points.split(" ").map((pair) => pair.split(",").map(Number)),
    }));
    expect(lines.map(({ dashed }) => dashed)).toEqual([true, false, true, false]);
    const [linear, measured] = lines.map(({ points }) => points);
    // from 1 to 4 and from 4 to 16 is equally far; the cost grew by 2, then by 4: twice as high; up is less
    const step = (points: number[][] | undefined, axis: 0 | 1, i: number): number => points![i + 1]![axis]! - points![i]![axis]!;
    expect(step(measured, 0, 1)).toBeCloseTo(step(measured, 0, 0), 0);
    expect(step(measured, 1, 1) / step(measured, 1, 0)).toBeCloseTo(2, 1);
    expect(step(linear, 1, 0)).toBeCloseTo(step(measured, 1, 1), 0);
    expect(step(lines[3]?.points, 1, 0)).toBeGreaterThan(0);
    expect(svg.match(/<g /g)).toHaveLength(2);
    expect(svg).toContain("training &lt;small&gt;");
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });
});
