import { describe, expect, it } from "vitest";
import { fromF16, toBf16, toElements, toF16, toFloats } from "../../src/tensor/dtype.ts";
import { fromBf16, roundTo } from "../helpers/round-to.ts";

describe("f16", () => {
  it("has every one of its 65,536 values come back as its own bits", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = fromF16(bits);
      if (Number.isNaN(value)) expect(toF16(value) & 0x7fff).toBeGreaterThan(0x7c00);
      else if (toF16(value) !== bits) expect(toF16(value), `bits ${bits}`).toBe(bits);
    }
  });

  it("rounds to nearest, ties to even, and overflows to infinity", () => {
    expect(fromF16(toF16(1 + 2 ** -11))).toBe(1);
    expect(fromF16(toF16(1 + 3 * 2 ** -11))).toBe(1 + 2 ** -9);
    expect(fromF16(toF16(1 + 2 ** -11 + 2 ** -20))).toBe(1 + 2 ** -10);
    expect(fromF16(toF16(65519))).toBe(65504);
    expect(fromF16(toF16(65520))).toBe(Infinity);
    expect(fromF16(toF16(-1e30))).toBe(-Infinity);
    expect(fromF16(toF16(2 ** -25))).toBe(0);
    expect(fromF16(toF16(2 ** -25 * 1.001))).toBe(2 ** -24);
    expect(fromF16(toF16(3 * 2 ** -25))).toBe(2 ** -23);
    expect(Object.is(fromF16(toF16(-0)), -0)).toBe(true);
  });
});

describe("bf16", () => {
  it("keeps its own values and rounds others to nearest, ties to even", () => {
    for (let bits = 0; bits < 65536; bits += 7) if (!Number.isNaN(fromBf16(bits))) expect(toBf16(fromBf16(bits))).toBe(bits);
    expect(fromBf16(toBf16(1 + 2 ** -8))).toBe(1);
    expect(fromBf16(toBf16(1 + 3 * 2 ** -8))).toBe(1 + 2 ** -6);
    expect(fromBf16(toBf16(3.4e38))).toBe(Infinity);
    expect(fromBf16(toBf16(NaN))).toBeNaN();
  });
});

describe("conversions of arrays", () => {
  it("agree with those of single numbers", () => {
    const values = Float32Array.from({ length: 200 }, (_, i) => Math.sin(i) * 10 ** ((i % 12) - 6));
    for (const dtype of ["f16", "bf16", "f32"] as const)
      expect([...toFloats(toElements(values, dtype), dtype)]).toEqual([...values].map((x) => roundTo(x, dtype)));
  });
});
