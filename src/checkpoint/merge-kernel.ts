/**
 * w + scale b a, each element the exact result rounded once to the type of the file, to nearest, ties to even.
 *
 * The sum is taken in float64, whose own error is bounded; where the bound reaches across a boundary of rounding (once in some thousand
 * elements for f16 and bf16, in some ten million for f32), the element is computed again in whole numbers of any length.
 * Source of the bound: Higham, "Accuracy and Stability of Numerical Algorithms", 3.1 (|error| <= gamma_n |x|^T |y|).
 */
import { toBf16, toF16, toFloats } from "../tensor/dtype.ts";
import type { FloatDtype } from "./save-tensors.ts";

/** Rows of one layer: base, b of the same rows, and the layer's a. With rank 0 the base alone, converted. */
export interface MergeJob {
  /** Raw elements of the base, [rows, cols]. */
  readonly base: Float32Array | Uint16Array;
  readonly baseDtype: FloatDtype;
  /** Type of the result. */
  readonly dtype: FloatDtype;
  readonly rows: number;
  readonly cols: number;
  readonly rank: number;
  /** The layer's a with the numbers of two neighbouring columns side by side, [cols / 2, rank, 2]: `packColumns`. */
  readonly a: Float64Array;
  /** [rows, rank] */
  readonly b: Float32Array;
  readonly scale: number;
}

/** a [rank, cols] as a `MergeJob` has it. */
export function packColumns(a: Float32Array, rank: number, cols: number): Float64Array {
  const packed = new Float64Array(rank * (cols + (cols & 1)));
  for (let k = 0; k < rank; k++) for (let j = 0; j < cols; j++) packed[((j >> 1) * rank + k) * 2 + (j & 1)] = a[k * cols + j]!;
  return packed;
}

export interface Merged {
  /** Raw elements, [rows, cols]. */
  readonly data: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;
  /** Index of the first element that is not finite: too large for the type, or NaN; -1 if there is none. */
  readonly notFinite: number;
  /** Elements that had to be computed exactly. */
  readonly exact: number;
}

/** Columns at a time, so that their part of a stays in the cache. */
const TILE_BYTES = 1 << 18;
/** Half a unit in the last place of 1: the relative error of one float64 operation. */
const U = 2 ** -53;
/** Precision in bits, the exponent of the smallest number above 0, and the largest finite number. */
const formats = {
  f32: { bits: 24, least: -149, largest: (2 - 2 ** -23) * 2 ** 127 },
  bf16: { bits: 8, least: -133, largest: (2 - 2 ** -7) * 2 ** 127 },
  f16: { bits: 11, least: -24, largest: 65504 },
};

const oneFloat = new Float32Array(1);
const oneBits = new Uint32Array(oneFloat.buffer);
const oneDouble = new Float64Array(1);
const doubleBits = new BigUint64Array(oneDouble.buffer);

/** A number of f32 that rounds to f16 and bf16 as the float64 does: of its two neighbours in f32 the one whose last bit is 1. */
function toOdd(x: number): number {
  oneFloat[0] = x;
  if (oneFloat[0] === x || Number.isNaN(x) || (oneBits[0]! & 1) === 1) return oneFloat[0];
  oneBits[0]! += Math.abs(oneFloat[0]) > Math.abs(x) ? -1 : 1;
  return oneFloat[0];
}

/** Raw elements nearest to a float64. */
const encoders: Readonly<Record<FloatDtype, (x: number) => number>> = {
  f32: Math.fround,
  f16: (x) => toF16(toOdd(x)),
  bf16: (x) => toBf16(toOdd(x)),
};

/** A finite float64 as mantissa * 2^exponent. */
function parts(x: number): { mantissa: bigint; exponent: number } {
  oneDouble[0] = x;
  const bits = doubleBits[0]!;
  const biased = Number((bits >> 52n) & 0x7ffn);
  const fraction = bits & 0xfffffffffffffn;
  const mantissa = biased === 0 ? fraction : fraction | 0x10000000000000n;
  return { mantissa: bits >> 63n === 1n ? -mantissa : mantissa, exponent: Math.max(biased, 1) - 1075 };
}

/** The number of a format nearest to w + scale (sum of b a), in whole numbers; infinity where it is too large. */
function exactly(job: MergeJob, w: number, row: number, col: number): number {
  const { a, b, rank, scale, dtype } = job;
  const terms = [parts(w)];
  const factor = parts(scale);
  for (let k = 0; k < rank; k++) {
    const x = parts(b[row * rank + k]!);
    const y = parts(a[((col >> 1) * rank + k) * 2 + (col & 1)]!);
    terms.push({ mantissa: factor.mantissa * x.mantissa * y.mantissa, exponent: factor.exponent + x.exponent + y.exponent });
  }
  const lowest = Math.min(...terms.map(({ exponent }) => exponent));
  const sum = terms.reduce((total, { mantissa, exponent }) => total + (mantissa << BigInt(exponent - lowest)), 0n);
  const size = sum < 0n ? -sum : sum;
  const { bits, least, largest } = formats[dtype];
  const unit = Math.max(lowest + size.toString(2).length - bits, least);
  const shift = BigInt(unit - lowest);
  let units = shift <= 0n ? size << -shift : size >> shift;
  if (shift > 0n) {
    const rest = size - (units << shift);
    const half = 1n << (shift - 1n);
    if (rest > half || (rest === half && (units & 1n) === 1n)) units += 1n;
  }
  const nearest = Number(units) * 2 ** unit;
  return (sum < 0n ? -1 : 1) * (nearest > largest ? Infinity : nearest);
}

/**
 * sums[i, j] = b[i] . a[j] for four rows, packed [rank, 4] from `b0` on, and an even number of columns from column `first` on.
 * Four rows by two columns at a time: a number that is loaded is used four times or twice.
 */
function fourRows(b: Float64Array, b0: number, a: Float64Array, first: number, count: number, rank: number, sums: Float64Array): void {
  for (let j = 0; j < count; j += 2) {
    let s00 = 0, s01 = 0, s10 = 0, s11 = 0, s20 = 0, s21 = 0, s30 = 0, s31 = 0; // prettier-ignore
    let at = (first + j) * rank;
    const end = at + 2 * rank;
    for (let of = b0; at < end; at += 2, of += 4) {
      const x = a[at]!;
      const y = a[at + 1]!;
      const p = b[of]!;
      const q = b[of + 1]!;
      const r = b[of + 2]!;
      const s = b[of + 3]!;
      s00 += p * x;
      s01 += p * y;
      s10 += q * x;
      s11 += q * y;
      s20 += r * x;
      s21 += r * y;
      s30 += s * x;
      s31 += s * y;
    }
    sums[j] = s00;
    sums[j + 1] = s01;
    sums[count + j] = s10;
    sums[count + j + 1] = s11;
    sums[2 * count + j] = s20;
    sums[2 * count + j + 1] = s21;
    sums[3 * count + j] = s30;
    sums[3 * count + j + 1] = s31;
  }
}

/** scale b, packed in fours of rows: [rows / 4, rank, 4]. */
function packRows({ b, rows, rank, scale }: MergeJob): Float64Array {
  const packed = new Float64Array(Math.ceil(rows / 4) * 4 * rank);
  for (let i = 0; i < rows; i++) for (let k = 0; k < rank; k++) packed[((i >> 2) * rank + k) * 4 + (i & 3)] = scale * b[i * rank + k]!;
  return packed;
}

/** For each row a bound of the error of its sums: those of the products, of the scale and of the additions, on the largest a's. */
function boundsOf({ a, rows, cols, rank }: MergeJob, b: Float64Array): Float64Array {
  const largest = new Float64Array(rank);
  for (let j = 0; j < cols; j += 2)
    for (let k = 0; k < rank; k++) {
      const at = j * rank + 2 * k;
      largest[k] = Math.max(largest[k]!, Math.abs(a[at]!), Math.abs(a[at + 1]!));
    }
  const bounds = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    let size = 0;
    for (let k = 0; k < rank; k++) size += Math.abs(b[((i >> 2) * rank + k) * 4 + (i & 3)]!) * largest[k]!;
    bounds[i] = (rank + 4) * U * size;
  }
  return bounds;
}

/** Where float64 may be on the wrong side of a boundary: whether it is, and if so the exact result. */
function careful(job: MergeJob, index: number, w: number, y: number, error: number, encode: (x: number) => number): number {
  const [low, high] = [encode(y - error), encode(y + error)];
  if (low === high || !Number.isFinite(y)) return encode(y);
  exact += 1;
  return encode(exactly(job, w, Math.floor(index / job.cols), index % job.cols));
}

let exact = 0;

/** Rounds w + sums of one row. `bound` is that of the sums; 0 means that they are 0, so that w itself is the result. */
function roundRow(
  job: MergeJob,
  w: Float32Array,
  sums: Float64Array,
  from: number,
  at: number,
  count: number,
  bound: number,
  out: Float32Array | Uint16Array,
): void {
  if (out instanceof Float32Array) {
    for (let j = 0; j < count; j++) {
      const y = w[at + j]! + sums[from + j]!;
      const error = bound + Math.abs(y) * (4 * U);
      const low = Math.fround(y - error);
      out[at + j] = low === Math.fround(y + error) ? Math.fround(y) : careful(job, at + j, w[at + j]!, y, error, Math.fround);
    }
    return;
  }
  const half = job.dtype === "f16";
  const encode = encoders[job.dtype];
  // Bits that fall away, and where the exponent counts from.
  const drop = half ? 13 : 16;
  const tie = 1 << (drop - 1);
  const mask = 2 * tie - 1;
  const rebias = half ? 0x38000000 : 0;
  // The size of numbers to which the quick way applies: the error is at most a quarter unit of f32, 2^-26 of them.
  const smallest = Math.max(half ? 2 ** -14 : 2 ** -120, bound / (2 ** -26 - 4 * U));
  const largest = half ? 65472 : 2 ** 127;
  if (rowFloats.length < count) rowFloats = new Float32Array(count);
  const floats = rowFloats;
  const bits = new Uint32Array(floats.buffer);
  for (let j = 0; j < count; j++) floats[j] = w[at + j]! + sums[from + j]!;
  for (let j = 0; j < count; j++) {
    const y = w[at + j]! + sums[from + j]!;
    const size = Math.abs(y);
    const word = bits[j]!;
    // Half a unit of f32 lies between y and its f32, and a quarter at most between y and the exact result: farther from a tie is safe.
    if (size >= smallest && size <= largest && Math.abs((word & mask) - tie) > 1)
      out[at + j] = (((word & 0x7fffffff) - rebias + tie) >>> drop) | ((word >>> 16) & 0x8000);
    else out[at + j] = careful(job, at + j, w[at + j]!, y, bound + size * (4 * U), encode);
  }
}

let rowFloats = new Float32Array(0);

/** Index of the first NaN or infinity, or -1. */
function firstNotFinite(data: Float32Array | Uint16Array, dtype: "f32" | "f16" | "bf16"): number {
  const words = data instanceof Float32Array ? new Uint32Array(data.buffer, data.byteOffset, data.length) : data;
  const exponent = dtype === "f32" ? 0x7f800000 : dtype === "f16" ? 0x7c00 : 0x7f80;
  for (let i = 0; i < words.length; i++) if ((words[i]! & exponent) === exponent) return i;
  return -1;
}

/** Merges rows. The job's arrays are only read. */
export function merge(job: MergeJob): Merged {
  const { rows, cols, rank, a, dtype } = job;
  exact = 0;
  const w = toFloats(job.base, job.baseDtype);
  const data = dtype === "f32" ? new Float32Array(rows * cols) : new Uint16Array(rows * cols);
  const encode = encoders[dtype];
  const b = packRows(job);
  const bounds = boundsOf(job, b);
  const tile = rank === 0 ? cols : Math.max(2, Math.floor(TILE_BYTES / (16 * rank)) * 2);
  const sums = new Float64Array(4 * Math.min(tile, cols + 1));
  for (let first = 0; first < cols; first += tile) {
    const count = Math.min(tile, cols - first);
    const even = count + (count & 1);
    for (let row = 0; row < rows; row += 4) {
      if (rank > 0) fourRows(b, row * rank, a, first, even, rank, sums);
      for (let i = row; i < Math.min(row + 4, rows); i++) {
        const at = i * cols + first;
        if (bounds[i] === 0) for (let j = at; j < at + count; j++) data[j] = encode(w[j]!);
        else roundRow(job, w, sums, (i - row) * even, at, count, bounds[i]!, data);
      }
    }
  }
  return { data, notFinite: firstNotFinite(data, dtype), exact };
}
