/**
 * Conversions between the storage types on the host. f16 (IEEE 754 binary16) and bf16 travel as their bits; rounding is to
 * nearest, ties to even, as in the devices' `copy` kernel.
 */
import type { Dtype, HostArray } from "../device/device.ts";

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/** Bits of the f16 nearest to x; overflow becomes infinity, NaN stays NaN. */
export function toF16(x: number): number {
  scratchFloat[0] = x;
  const bits = scratchBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return magnitude > 0x7f800000 ? sign | 0x7e00 : sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal halves: 2^24 x is at most 1024, and the exact product rounded to an integer is the mantissa.
    const scaled = Math.abs(scratchFloat[0]) * 16777216;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && (floor & 1) === 1) ? floor + 1 : floor);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** Value of the f16 with these bits. */
export function fromF16(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >>> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** Bits of the bf16 nearest to x. */
export function toBf16(x: number): number {
  scratchFloat[0] = x;
  const bits = scratchBits[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

let halfTable: Float32Array | null = null;

function halves(): Float32Array {
  if (halfTable === null) {
    halfTable = new Float32Array(65536);
    for (let i = 0; i < 65536; i++) halfTable[i] = fromF16(i);
  }
  return halfTable;
}

/** Floats of raw elements; a Float32Array is returned as it is. */
export function toFloats(data: HostArray, dtype: Dtype): Float32Array {
  if (data instanceof Float32Array) return data;
  const out = new Float32Array(data.length);
  if (dtype === "bf16") {
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < data.length; i++) bits[i] = data[i]! << 16;
  } else if (dtype === "f16") {
    const table = halves();
    for (let i = 0; i < data.length; i++) out[i] = table[data[i]!]!;
  } else for (let i = 0; i < data.length; i++) out[i] = data[i]!;
  return out;
}

/** Raw elements of `dtype` for the numbers given. A Float32Array for f32, or a Uint32Array for u32, is returned as it is. */
export function toElements(values: ArrayLike<number>, dtype: Dtype): HostArray {
  if (dtype === "f32") return values instanceof Float32Array ? values : Float32Array.from(values);
  if (dtype === "u32") return values instanceof Uint32Array ? values : Uint32Array.from(values);
  const out = new Uint16Array(values.length);
  const convert = dtype === "f16" ? toF16 : toBf16;
  for (let i = 0; i < out.length; i++) out[i] = convert(values[i]!);
  return out;
}
