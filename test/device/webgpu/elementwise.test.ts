import { describe, expect, it } from "vitest";
import { fromF16, toBf16, toF16 } from "../../../src/tensor/dtype.ts";
import { bitsOf, check, device, expectSameBits, randomTensor, useDevices, vector, zeros } from "../kernels/harness.ts";

useDevices();

/** Raw elements through `copy` into another dtype, as they are: the harness would round them first. */
async function copyRaw(
  from: { readonly dtype: "f32" | "f16" | "bf16"; readonly data: Float32Array | Uint16Array },
  to: "f32" | "f16" | "bf16",
  cols: number,
): Promise<Float32Array | Uint16Array> {
  const rows = from.data.length / cols;
  const x = device().allocate(rows, cols, from.dtype, "activation", "x");
  const y = device().allocate(rows, cols, to, "activation", "y");
  device().write(x, from.data);
  device().run("copy", { fromRow: 0, toRow: 0, rows }, [x], [y]);
  const got = await device().read(y);
  device().release(x);
  device().release(y);
  return got as Float32Array | Uint16Array;
}

const everyPattern = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNan16 = (bits: number): boolean => (bits & 0x7fff) > 0x7c00;

describe("copy", () => {
  it("widens each of the 65536 halves to its own value", async () => {
    const got = (await copyRaw({ dtype: "f16", data: everyPattern }, "f32", 256)) as Float32Array;
    for (let i = 0; i < 65536; i++) {
      if (isNan16(i)) expect(got[i]).toBeNaN();
      else if (!Object.is(got[i], fromF16(i))) expect.fail(`half ${i.toString(16)} became ${got[i]}; expected ${fromF16(i)}`);
    }
  });

  it("gives back each of the 65536 halves after a trip through f32, NaN as NaN", async () => {
    const wide = (await copyRaw({ dtype: "f16", data: everyPattern }, "f32", 256)) as Float32Array;
    const back = (await copyRaw({ dtype: "f32", data: wide }, "f16", 256)) as Uint16Array;
    for (let i = 0; i < 65536; i++)
      if (isNan16(i) ? !isNan16(back[i]!) : back[i] !== i) expect.fail(`half ${i.toString(16)} became ${back[i]!.toString(16)}`);
  });

  it("narrows arbitrary f32 bits as the host does, in rows of every width from 1 to 17", async () => {
    let state = 12345;
    const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
    for (const [to, host] of [
      ["f16", toF16],
      ["bf16", toBf16],
    ] as const)
      for (let cols = 1; cols <= 17; cols++) {
        const bits = Uint32Array.from({ length: cols * 40 }, (_, i) =>
          // half of them near what a half can hold, half anything at all
          i % 2 === 0 ? next() : (next() & 0x80ffffff) | (0x30000000 + (next() & 0x1f000000)),
        );
        const floats = new Float32Array(bits.buffer);
        // f32 subnormals may count as 0 on an adapter; as bf16 they would show
        floats.forEach((x, i) => {
          if (Math.abs(x) < 2 ** -126) floats[i] = 0;
        });
        const got = (await copyRaw({ dtype: "f32", data: floats }, to, cols)) as Uint16Array;
        expectSameBits(got, Uint16Array.from(floats, host), `${to}, ${cols} columns`);
      }
  });

  it("moves a range of rows across shards of both sides, at any offset", async () => {
    for (const [from, to] of [
      ["f32", "f32"],
      ["f32", "f16"],
      ["bf16", "f32"],
      ["f16", "bf16"],
    ] as const)
      await check("copy", { fromRow: 250, toRow: 3, rows: 500 }, [randomTensor(1, 800, 9, from)], [randomTensor(2, 700, 9, to)], {
        tolerance: 0,
      });
  });
});

describe("fill", () => {
  it("keeps the sign of -0 and the bits of the least subnormal", async () => {
    for (const value of [-0, 2 ** -149, 3.4028234663852886e38]) {
      const y = device().allocate(3, 5, "f32", "activation", "y");
      device().run("fill", { value }, [], [y]);
      expectSameBits(await device().read(y), new Float32Array(15).fill(value), `fill ${value}`);
      device().release(y);
    }
  });
});

describe("element-wise kernels", () => {
  it("leave nothing out over tensors of several shards", async () => {
    const [n, c] = [1500, 11];
    const [a, b] = [randomTensor(1, n, c), randomTensor(2, n, c)];
    await check("add", {}, [a, b], [zeros(n, c)], { tolerance: 0 });
    await check("round", { bits: 16 }, [a], [zeros(n, c)], { tolerance: 0 });
    await check("accumulate", { scale: 0.5 }, [randomTensor(3, n, c, "f16")], [b], { tolerance: 2e-7 });
    await check("swiglu", {}, [a, b], [zeros(n, c)], { tolerance: 1e-6 });
  });

  it("let NaN and infinity through", async () => {
    const hard = [NaN, Infinity, -Infinity, 1];
    const [sum] = await check("add", {}, [vector(hard), vector([1, 1, Infinity, NaN])], [zeros(1, 4)]);
    expect([...sum!]).toEqual([NaN, Infinity, NaN, NaN]);
    const [gated] = await check("swiglu", {}, [vector([NaN, 1, Infinity]), vector([1, NaN, 1])], [zeros(1, 3)]);
    expect([...gated!]).toEqual([NaN, NaN, Infinity]);
    expect([...bitsOf(sum!)].every((bits) => bits !== 0)).toBe(true);
  });
});
