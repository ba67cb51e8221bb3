/** Cost against size: tables and a figure of what the scaling/ benches measured. */
import type { Point } from "./bench.js";
import { digits, type Result } from "./report.js";
import { figure } from "./svg.js";

/** The points of one line, by size. */
export interface Curve extends Pick<Point, "axis" | "line" | "of" | "linear"> {
  readonly points: readonly {
    readonly size: number;
    /** Seconds for each of what is counted. */
    readonly cost: number;
    readonly rate: string;
    readonly note: string;
  }[];
}

/** In the order of the results; what has one point is no curve. */
export function curvesOf(results: readonly Result[]): Curve[] {
  const curves = new Map<string, Curve & { points: Curve["points"][number][] }>();
  for (const { point, seconds, value, unit } of results) {
    if (point === undefined) continue;
    const { axis, line, of, linear, size, count, note = "" } = point;
    const key = `${axis}: ${line}`;
    const curve = curves.get(key) ?? { axis, line, of, linear, points: [] };
    curves.set(key, curve);
    curve.points.push({ size, cost: seconds / count, rate: `${value} ${unit}`, note });
    curve.points.sort((a, b) => a.size - b.size);
  }
  return [...curves.values()].filter(({ points }) => points.length > 1);
}

/** One row for each size: its cost, how it grew from the first one, and what linear cost would have grown by. */
export function costTable({ axis, line, of, linear, points }: Curve): string {
  const [first] = points;
  const rows = points.map(({ size, cost, rate, note }) => {
    const grown = first === undefined ? 1 : cost / first.cost;
    const proportional = first === undefined ? 1 : (size / first.size) ** linear;
    return [String(size), `${digits(1000 * cost)} ms`, `x ${digits(grown, 3)}`, `x ${digits(proportional, 3)}`, rate, note];
  });
  const all = [[axis, `a ${of}`, "grown", "linear", "rate", ""], ...rows];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  const table = all.map((row) => `  ${row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join("  ")}`.trimEnd());
  return `${line}, over ${axis}:\n${table.join("\n")}`;
}

/** One panel for each axis. */
export function drawCurves(curves: readonly Curve[]): string {
  const axes = [...new Set(curves.map(({ axis }) => axis))];
  return figure(
    axes.map((axis) => {
      const lines = curves.filter((curve) => curve.axis === axis);
      const costs = [...new Set(lines.map(({ of }) => of))];
      return {
        title: `cost over ${axis}`,
        xLabel: axis,
        yLabel: `ms for a ${costs.join(", a ")}`,
        linear: lines[0]?.linear ?? 1,
        lines: lines.map(({ line, points }) => ({
          name: line,
          points: points.map(({ size, cost }): [number, number] => [size, 1000 * cost]),
        })),
      };
    }),
  );
}
