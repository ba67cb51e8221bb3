/**
 * w + scale b a, each element the exact result rounded once to the type of the file, to nearest, ties to even.
 *
 * The sum is taken in float64, whose own error is bounded; where the bound reaches across a boundary of rounding (once in some thousand
 * elements for f16 and bf16, in some ten million for f32), the element is computed again in whole numbers of any length.
 * Source of the bound: Higham, "Accuracy and Stability of Numerical Algorithms", 3.1 (|error| <= gamma_n |x|^T |y|).
 */
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

/** a [rank, cols] as a `MergeJob` has it, in memory that threads share. */
export function packColumns(a: Float32Array, rank: number, cols: number): Float64Array {
  const packed = new Float64Array(new SharedArrayBuffer(8 * rank * (cols + (cols & 1))));
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

/**
 * Makes the function that merges. It names nothing outside itself and imports nothing, since its text is what worker threads run.
 */
export function makeMerge(): (job: MergeJob) => Merged {
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
  let halves: Float32Array | null = null;

  /** Bits of the bf16 nearest to a float64. Through f32, which may round onto a tie: then the float64 says on which side it was. */
  function toBf16(x: number): number {
    oneFloat[0] = x;
    const bits = oneBits[0]!;
    const rest = bits & 0xffff;
    if (rest !== 0x8000) return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
    const over = Math.abs(x) - Math.abs(oneFloat[0]);
    return (bits >>> 16) + (over > 0 || (over === 0 && ((bits >>> 16) & 1) === 1) ? 1 : 0);
  }

  /** Bits of the f16 nearest to a float64; infinity from 65520 on. */
  function toF16(x: number): number {
    oneFloat[0] = x;
    const bits = oneBits[0]!;
    const sign = (bits >>> 16) & 0x8000;
    const size = Math.abs(x);
    if (Number.isNaN(x)) return 0x7e00;
    if (size >= 65520) return sign | 0x7c00;
    if (size < 2 ** -14) {
      // in units of the smallest f16 the product is exact, and its rounding is the mantissa
      const scaled = size * 2 ** 24;
      const floor = Math.floor(scaled);
      const rest = scaled - floor;
      return sign | (rest > 0.5 || (rest === 0.5 && (floor & 1) === 1) ? floor + 1 : floor);
    }
    const magnitude = (bits & 0x7fffffff) - 0x38000000;
    if ((magnitude & 0x1fff) !== 0x1000) return sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    const over = size - Math.abs(oneFloat[0]);
    return sign | ((magnitude >>> 13) + (over > 0 || (over === 0 && ((magnitude >>> 13) & 1) === 1) ? 1 : 0));
  }

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

  function toFloats(job: MergeJob): Float32Array {
    const { base, baseDtype } = job;
    if (base instanceof Float32Array) return base;
    const out = new Float32Array(base.length);
    if (baseDtype === "bf16") {
      const bits = new Uint32Array(out.buffer);
      for (let i = 0; i < base.length; i++) bits[i] = base[i]! << 16;
      return out;
    }
    if (halves === null) {
      halves = new Float32Array(65536);
      for (let i = 0; i < 65536; i++) {
        const [exponent, mantissa] = [(i >>> 10) & 31, i & 1023];
        let size = (1 + mantissa / 1024) * 2 ** (exponent - 15);
        if (exponent === 0) size = mantissa * 2 ** -24;
        if (exponent === 31) size = mantissa === 0 ? Infinity : NaN;
        halves[i] = i < 32768 ? size : -size;
      }
    }
    for (let i = 0; i < base.length; i++) out[i] = halves[base[i]!]!;
    return out;
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
    const encode = half ? toF16 : toBf16;
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

  return (job) => {
    const { rows, cols, rank, a, dtype } = job;
    exact = 0;
    const w = toFloats(job);
    const data = dtype === "f32" ? new Float32Array(rows * cols) : new Uint16Array(rows * cols);
    const encode = dtype === "f32" ? Math.fround : dtype === "f16" ? toF16 : toBf16;
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
  };
}
