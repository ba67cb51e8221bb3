/** Rounding on the host to what a storage type holds. */
import type { Dtype } from "../../src/device/device.ts";
import { fromF16, toBf16, toF16, toFloats } from "../../src/tensor/dtype.ts";

/** Value of the bf16 with these bits. */
export function fromBf16(bits: number): number {
  return toFloats(Uint16Array.of(bits), "bf16")[0]!;
}

/** What storing x as `dtype` and reading it back gives. */
export function roundTo(x: number, dtype: Dtype): number {
  if (dtype === "f16") return fromF16(toF16(x));
  if (dtype === "bf16") return fromBf16(toBf16(x));
  return dtype === "u32" ? x >>> 0 : Math.fround(x);
}
