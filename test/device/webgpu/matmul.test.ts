import { afterAll, beforeAll, describe, it } from "vitest";
import type { DeviceOptions } from "../../../src/device/options.ts";
import type { Device } from "../../../src/device/device.ts";
import { toElements } from "../../../src/tensor/dtype.ts";
import { makeDevice } from "../../helpers/device.ts";
import { expectClose, expectSameBits, place, randomTensor, runOn, runReference, tensor, zeros, type Values } from "../kernels/harness.ts";
import { roundTo } from "../../helpers/round-to.ts";

const anywhere = ["subgroups", "shader-f16", "subgroup-matrix"] as const;
/** Every way of computing a product; `half` ones round operands to f16. All of one group give the same bits. */
const ways: readonly { readonly name: string; readonly half: boolean; readonly options: DeviceOptions }[] = [
  { name: "f32", half: false, options: {} },
  { name: "f16, kernels that run anywhere", half: true, options: { precision: "f16", tiersOff: anywhere } },
  { name: "f16, all tiers", half: true, options: { precision: "f16" } },
];

/** Some rows of a tensor. */
const rowsOf = ({ cols, dtype, values }: Values, first: number, rows: number): Values => ({
  rows,
  cols,
  dtype,
  values: values.slice(first * cols, (first + rows) * cols),
});
const rounded = (value: Values): Values => ({ ...value, values: value.values.map((x) => roundTo(x, "f16")) });
const linear = { transA: 0, transB: 1, accumulate: 0 } as const;

async function parameterProduct(on: Device, x: Values, weight: Values, bias: Values | null): Promise<Float32Array> {
  const w = on.allocate(weight.rows, weight.cols, weight.dtype, "parameter", "weight");
  on.write(w, toElements(weight.values, weight.dtype));
  const [a, b, y] = [place(on, x), bias === null ? null : place(on, bias), on.allocate(x.rows, weight.rows, "f32", "activation", "y")];
  on.run("matmul", { ...linear, M: x.rows, N: weight.rows, K: weight.cols }, [a, w, b], [y]);
  const result = (await on.read(y)) as Float32Array;
  for (const storage of [w, a, b, y]) if (storage !== null) on.release(storage);
  return result;
}

for (const { name, half, options } of ways)
  describe(`matmul on a GPU, ${name}`, () => {
    let device: Device, sharded: Device;
    beforeAll(async () => {
      device = await makeDevice(options);
      sharded = await makeDevice({ ...options, maxShardBytes: 2048 });
    });
    afterAll(async () => {
      await device.destroy();
      await sharded.destroy();
    });

    it("agrees with float64 of its operands in every transposition, with a bias and an old c, in one shard and in several", async () => {
      // one tile and less, one over a tile, more rows than a shard has (256) in every direction
      for (const [M, N, K] of [
        [5, 33, 40],
        [66, 129, 257],
        [300, 270, 520],
      ] as const)
        for (const transA of [0, 1])
          for (const transB of [0, 1]) {
            const dims = { M, N, K, transA, transB, accumulate: 1 };
            const a = transA === 0 ? randomTensor(1, M, K) : randomTensor(1, K, M);
            const b = transB === 0 ? randomTensor(2, K, N, "bf16") : randomTensor(2, N, K, "bf16");
            const [bias, c] = [randomTensor(3, 1, N, "f16"), randomTensor(4, M, N)];
            const operands = half ? [rounded(a), rounded(b)] : [a, b];
            const [want] = runReference("matmul", dims, [...operands, bias], [c]);
            const [got] = await runOn(device, "matmul", dims, [a, b, bias], [c]);
            expectClose(got!, want!, 1e-5, JSON.stringify(dims));
            const [inShards] = await runOn(sharded, "matmul", dims, [a, b, bias], [c]);
            expectSameBits(inShards!, got!, `${JSON.stringify(dims)} in shards`);
          }
    }, 300_000); // a pipeline for each tile and transposition, which a software adapter takes seconds to compile

    it("gives a row the same bits at every M, beside any number of columns, whether the weight is a parameter or not", async () => {
      // chunks of 256 and of 2048, the last one short
      for (const [N, K] of [
        [77, 530],
        [40, 4200],
      ] as const) {
        const [x, weight, bias] = [randomTensor(1, 300, K), randomTensor(2, N, K), randomTensor(3, 1, N)];
        const [whole] = await runOn(device, "matmul", { ...linear, M: 300, N, K }, [x, weight, bias], [zeros(300, N)]);
        for (const [first, rows] of [
          [299, 1],
          [17, 2],
          [100, 17],
          [64, 32],
          [200, 64],
          [30, 65],
        ] as const) {
          const got = await parameterProduct(device, rowsOf(x, first, rows), weight, bias);
          expectSameBits(got, whole!.subarray(first * N, (first + rows) * N), `rows ${first} to ${first + rows} of K = ${K}`);
        }
        const fewer = await parameterProduct(device, rowsOf(x, 40, 3), rowsOf(weight, 0, 5), tensor(1, 5, bias.values.slice(0, 5)));
        for (let m = 0; m < 3; m++)
          expectSameBits(fewer.subarray(m * 5, m * 5 + 5), whole!.subarray((40 + m) * N, (40 + m) * N + 5), "the first 5 columns");
      }
    });

    it("gives the same bits whether workgroups share K or not", async () => {
      // where M and N give enough tiles for any GPU, K stays whole; 3 rows of them do not. K is more than one chunk
      const [M, N, K] = name === "f16, all tiers" ? [640, 4000, 1300] : [300, 4000, 600];
      const [x, weight] = [randomTensor(1, M, K), randomTensor(2, N, K, "f16")];
      const whole = await parameterProduct(device, x, weight, null);
      const shared = await parameterProduct(device, rowsOf(x, 200, 3), weight, null);
      expectSameBits(shared, whole.subarray(200 * N, 203 * N), "rows 200 to 203");
    });

    it("gives large tiles the bits of small ones, and reads weights of f16 that need no padding where they lie", async () => {
      for (const [M, N, K, dtype] of [
        [1500, 1450, 40, "f32"],
        [130, 128, 256, "f16"],
      ] as const) {
        const [x, weight] = [randomTensor(1, M, K), randomTensor(2, N, K, dtype)];
        const large = await parameterProduct(device, x, weight, null);
        for (const [first, rows] of [
          [0, 3],
          [60, 70],
        ] as const) {
          const few = rowsOf(x, first, rows);
          const small = await parameterProduct(device, few, weight, null);
          expectSameBits(small, large.subarray(first * N, (first + rows) * N), `rows ${first} to ${first + rows} of N = ${N}`);
          const operands = half ? [rounded(few), rounded(weight)] : [few, weight];
          const [want] = runReference("matmul", { ...linear, M: rows, N, K }, [...operands, null], [zeros(rows, N)]);
          expectClose(small, want!, 1e-5, `rows ${first} to ${first + rows} of N = ${N}`);
        }
      }
    });

    if (half)
      it("rounds operands to the nearest f16, ties to even, beyond the largest to infinity, wherever it reads them", async () => {
        const special = [0, -0, 1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, -1 - 2 ** -11 - 2 ** -20, 65504, 65519.99, 65520, -1e9, 2 ** -14];
        const small = [1.5 * 2 ** -24, 2.5 * 2 ** -24, 2 ** -25, 2 ** -25 + 2 ** -40, -(2 ** -15) - 2 ** -26, 1e-10, 6.1e-5];
        const values = [...special, ...small, ...Array.from({ length: 182 }, (_, i) => Math.sin(i) * 2 ** ((i % 40) - 22))];
        const [count, one] = [values.length, tensor(1, 1, [1])];
        const want = Float32Array.from(values, (x) => roundTo(Math.fround(x), "f16") + 0);
        const row = tensor(1, count, values);
        const column = tensor(count, 1, values);
        const run = async (M: number, N: number, transA: number, a: Values, b: Values): Promise<Float32Array> =>
          (await runOn(device, "matmul", { M, N, K: 1, transA, transB: 0, accumulate: 0 }, [a, b, null], [zeros(M, N)]))[0] as Float32Array;
        expectSameBits(await run(1, count, 0, one, row), want, "b");
        expectSameBits(await run(count, 1, 0, column, one), want, "a of many rows");
        expectSameBits(await run(count, 1, 1, row, one), want, "a transposed");
        for (let first = 0; first < count; first += 8)
          expectSameBits(await run(8, 1, 0, rowsOf(column, first, 8), one), want.subarray(first, first + 8), "a of few rows");
        expectSameBits(await parameterProduct(device, one, column, null), want, "a parameter");
      });
  });

describe("column_sum on a GPU", () => {
  it("sums chunks of 256 rows in order and adds them to y in order, in one shard and in several", async () => {
    const [device, sharded] = [await makeDevice(), await makeDevice({ maxShardBytes: 2048 })];
    for (const [N, C] of [
      [1, 1],
      [255, 7],
      [257, 300],
      [1100, 5],
    ] as const) {
      const [x, y] = [randomTensor(1, N, C), randomTensor(2, 1, C)];
      const want = Float32Array.from(y.values);
      for (let c = 0; c < C; c++)
        for (let first = 0; first < N; first += 256) {
          let sum = 0;
          for (let n = first; n < Math.min(N, first + 256); n++) sum = Math.fround(sum + x.values[n * C + c]!);
          want[c] = want[c]! + sum;
        }
      for (const [name, on] of [
        ["one shard", device],
        ["several", sharded],
      ] as const) {
        const [got] = await runOn(on, "column_sum", {}, [x], [y]);
        expectSameBits(got!, want, `[${N}, ${C}], ${name}`);
      }
    }
    await device.destroy();
    await sharded.destroy();
  });
});
