/**
 * The 256 numbers that an 8-bit code can stand for: dynamic tree quantisation, signed for first moments, unsigned for second ones. A
 * code is some zero bits, a one, and a fraction in the bits that are left; each zero in front divides by ten. So numbers near 1 have a
 * fraction of 6 bits (signed) or 7 (unsigned), and the least are 5.5e-7 and 3.25e-7.
 *
 * Source: Dettmers 2016, arXiv:1511.04561, section 2.1; Dettmers et al. 2021, arXiv:2110.02861, section 1.3 and 2.2.
 */

/** Powers of ten between the least and the largest: an exponent takes 0 to 6 zero bits. */
const decades = 7;

/**
 * Rising; 0 and 1 are among them. The fraction cuts the decade from 0.1 to 1, or a tenth of it and so on, into equal parts, and each part
 * is known by its middle. Signed: 127 numbers, their negatives, 0 and 1 (-1 there is none: 0.993 is the least). Unsigned: 254, 0 and 1.
 */
export function dynamicMap(kind: "signed" | "unsigned"): Float64Array {
  const numbers = [0, 1];
  for (let decade = 0; decade < decades; decade++) {
    const parts = 2 ** (kind === "signed" ? decade : decade + 1);
    for (let part = 0; part < parts; part++) {
      const middle = (0.1 + (0.9 * (part + 0.5)) / parts) * 10 ** (decade - decades + 1);
      numbers.push(middle);
      if (kind === "signed") numbers.push(-middle);
    }
  }
  return Float64Array.from(numbers).sort();
}

/** A piece of the line from numbers to places: place = slope * number + offset. */
interface Line {
  readonly slope: number;
  readonly offset: number;
}

/**
 * The place of a number x in [0, 1] among the numbers of a map that are not negative, with a fraction between two of them, is
 * max(last line, min(all others)): numbers lie the less dense the larger they are, apart from those between the last two.
 */
export function placeLines(map: Float64Array): { readonly lines: readonly Line[]; readonly last: Line } {
  const numbers = map.filter((x) => x >= 0);
  const lines: Line[] = [];
  for (let place = 0; place + 1 < numbers.length; place++) {
    const slope = 1 / (numbers[place + 1]! - numbers[place]!);
    // Parts of one decade are equal, but for their rounding.
    if (Math.abs(slope / (lines.at(-1)?.slope ?? 0) - 1) < 1e-6) continue;
    lines.push({ slope, offset: place - slope * numbers[place]! });
  }
  const last = lines.pop()!;
  return { lines, last };
}

/** Lines of one map in a table, the last one apart. */
const tableLines = 15;
/** Shape of `momentTables`. */
export const tableShape = [3, 256] as const;

/**
 * What the 8-bit kernels need of both maps, [3, 256]: the signed numbers, the unsigned ones, and the lines of each in pairs of slope and
 * offset, 15 for the minimum (of which spare ones are above all others) and the last one.
 */
export function momentTables(): Float32Array {
  const table = new Float32Array(tableShape[0] * tableShape[1]);
  (["signed", "unsigned"] as const).forEach((kind, row) => {
    const map = dynamicMap(kind);
    table.set(map, row * 256);
    const { lines, last } = placeLines(map);
    const spare = new Array<Line>(tableLines - lines.length).fill({ slope: 0, offset: 1e6 });
    [...lines, ...spare, last].forEach(({ slope, offset }, i) => {
      table.set([slope, offset], 512 + row * 32 + 2 * i);
    });
  });
  return table;
}
