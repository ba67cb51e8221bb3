/** A figure of lines on logarithmic axes, one panel beside another, as SVG. Written out by hand: it takes no library. */

export interface Line {
  readonly name: string;
  /** (x, y), all above 0, x rising. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Panel {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly lines: readonly Line[];
  /** The power of x that a dashed line through the first point of each line goes by: what linear cost would be. */
  readonly linear: number;
}

const width = 420,
  height = 340,
  left = 66,
  right = 16,
  top = 34,
  bottom = 50;
const colours = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b"];
const columns = 3;

/** All panels, three in a row. */
export function figure(panels: readonly Panel[]): string {
  const across = Math.min(columns, panels.length);
  const down = Math.ceil(panels.length / columns);
  const [W, H] = [across * width, down * height];
  const parts = panels.map(
    (panel, i) => `<g transform="translate(${(i % columns) * width} ${Math.floor(i / columns) * height})">\n${drawPanel(panel)}\n</g>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${W}" height="${H}" viewBox="0 0 ${W} ${H}" font-family="sans-serif" font-size="11">
<rect width="${W}" height="${H}" fill="white"/>
${parts.join("\n")}
</svg>
`;
}

function drawPanel({ title, xLabel, yLabel, lines, linear }: Panel): string {
  const dashed = lines.map(({ points }) => linearPoints(points, linear));
  const all = [...lines.map(({ points }) => points), ...dashed].flat();
  const x = scaleOf(
    all.map(([value]) => value),
    left,
    width - right,
  );
  // Below the names of the lines.
  const y = scaleOf(
    all.map(([, value]) => value),
    height - bottom,
    top + 8 + 14 * lines.length,
  );
  const path = (points: Line["points"]): string => points.map(([a, b]) => `${round(x.at(a))},${round(y.at(b))}`).join(" ");
  const sizes = [...new Set(lines.flatMap(({ points }) => points.map(([size]) => size)))].sort((a, b) => a - b);
  return [
    text(width / 2, 18, title, `text-anchor="middle" font-size="13"`),
    `<rect x="${left}" y="${top}" width="${width - left - right}" height="${height - top - bottom}" fill="none" stroke="#888"/>`,
    ...sizes.flatMap((size) => [
      `<line x1="${round(x.at(size))}" y1="${height - bottom}" x2="${round(x.at(size))}" y2="${height - bottom + 4}" stroke="#888"/>`,
      text(x.at(size), height - bottom + 16, short(size), `text-anchor="middle"`),
    ]),
    ...decades(y.least, y.most).flatMap((value) => [
      `<line x1="${left}" y1="${round(y.at(value))}" x2="${width - right}" y2="${round(y.at(value))}" stroke="#ddd"/>`,
      text(left - 6, y.at(value) + 4, short(value), `text-anchor="end"`),
    ]),
    text((left + width - right) / 2, height - bottom + 36, xLabel, `text-anchor="middle"`),
    text(14, (top + height - bottom) / 2, yLabel, `text-anchor="middle" transform="rotate(-90 14 ${(top + height - bottom) / 2})"`),
    ...lines.flatMap(({ name, points }, i) => {
      const colour = colours[i % colours.length] ?? "black";
      return [
        `<polyline points="${path(dashed[i] ?? [])}" fill="none" stroke="${colour}" stroke-dasharray="5 4" opacity="0.6"/>`,
        `<polyline points="${path(points)}" fill="none" stroke="${colour}" stroke-width="1.8"/>`,
        ...points.map(([a, b]) => `<circle cx="${round(x.at(a))}" cy="${round(y.at(b))}" r="3" fill="${colour}"/>`),
        text(left + 8, top + 16 + 14 * i, name, `fill="${colour}"`),
      ];
    }),
  ].join("\n");
}

/** From the first point on: y in proportion to that power of x. */
function linearPoints(points: Line["points"], power: number): [number, number][] {
  const [first] = points;
  if (first === undefined) return [];
  return points.map(([x]) => [x, first[1] * (x / first[0]) ** power]);
}

interface Scale {
  readonly least: number;
  readonly most: number;
  at(value: number): number;
}

/** The logarithm of what lies between the least and the most value, with a margin, over from..to. */
function scaleOf(values: readonly number[], from: number, to: number): Scale {
  const margin = 1.25;
  const least = Math.min(...values) / margin;
  const most = Math.max(...values) * margin;
  return { least, most, at: (value) => from + ((to - from) * Math.log(value / least)) / Math.log(most / least) };
}

/** Powers of ten within; 2 and 5 times them where these are few. */
function decades(least: number, most: number): number[] {
  const [first, last] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const steps = last - first > 3 ? [1] : [1, 2, 5];
  const values = Array.from({ length: last - first + 1 }, (_, i) => steps.map((step) => Number(`${step}e${first + i}`))).flat();
  return values.filter((value) => value >= least && value <= most);
}

/** 0.002, 64, 8192, 135M */
function short(value: number): string {
  const [divisor, unit] = value >= 1e6 ? [1e6, "M"] : value >= 1e4 ? [1e3, "k"] : [1, ""];
  return `${Number((value / divisor).toPrecision(4))}${unit}`;
}

function round(value: number): number {
  return Math.round(10 * value) / 10;
}

function text(x: number, y: number, words: string, attributes: string): string {
  const escaped = words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escaped}</text>`;
}
