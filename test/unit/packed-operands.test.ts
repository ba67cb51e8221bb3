/** How often operands of products in f16 are packed, on a device that computes nothing. */
import { describe, expect, it } from "vitest";
import { genericGpu } from "../../src/device/kinds/webgpu.ts";
import { DryWebGpuDevice } from "../../src/device/webgpu/dry-device.ts";
import type { Device } from "../../src/device/device.ts";

const { capabilities } = genericGpu;
const [M, C] = [200, 256];

/** Names of the kernels that `run` leads to, in order. */
function kernelsOf(run: (device: Device) => void, fuse = false): string[] {
  const kernels: string[] = [];
  const device = new DryWebGpuDevice({ capabilities, precision: "f16", fuse, onDispatch: ({ kernel }) => kernels.push(kernel) });
  run(device);
  device.memory(); // what is held back runs
  return kernels;
}
const packs = (kernels: readonly string[]): number => kernels.filter((kernel) => kernel === "matmul_pack").length;
const make = (device: Device, rows: number, cols: number, usage: "activation" | "parameter" = "activation") =>
  device.allocate(rows, cols, "f32", usage, "x");
const product = (device: Device, [m, n, k]: readonly number[], [transA, transB]: readonly number[], a: unknown, b: unknown, c: unknown) => {
  const dims = { M: m!, N: n!, K: k!, transA: transA!, transB: transB!, accumulate: 0 };
  device.run("matmul", dims, [a, b, null] as never, [c] as never);
};

describe("operands in f16", () => {
  it("are packed once for layers of one input, forward and backward", () => {
    const kernels = kernelsOf((device) => {
      const x = make(device, M, C);
      const layers = [256, 128, 128].map((N) => ({
        N,
        weight: make(device, N, C, "parameter"),
        y: make(device, M, N),
        dy: make(device, M, N),
      }));
      for (const { N, weight, y } of layers) product(device, [M, N, C], [0, 1], x, weight, y);
      const [dx, dw] = [make(device, M, C), layers.map(({ N }) => make(device, N, C))];
      for (const [i, { N, weight, dy }] of layers.entries()) {
        product(device, [M, C, N], [0, 0], dy, weight, dx);
        product(device, [N, C, M], [1, 0], dy, x, dw[i]);
      }
    });
    // three weights, x, which every layer finds again on both ways, and each dy
    expect(packs(kernels)).toBe(3 + 1 + 3);
  });

  it("are packed again when they have changed, and not kept in what is captured", () => {
    const calls = (between: (device: Device, x: never) => void): number =>
      packs(
        kernelsOf((device) => {
          const [x, y, weight] = [make(device, M, C), make(device, M, 64), make(device, 64, C, "parameter")];
          product(device, [M, 64, C], [0, 1], x, weight, y);
          between(device, x as never);
          product(device, [M, 64, C], [0, 1], x, weight, y);
        }),
      );
    expect(calls(() => undefined)).toBe(2);
    expect(calls((device, x) => device.write(x, new Float32Array(M * C)))).toBe(3);
    expect(calls((device, x) => device.run("fill", { value: 1 }, [], [x]))).toBe(3);
    const inside = (device: Device, x: never): void => {
      device.capture!(() => device.run("copy", { fromRow: 0, toRow: 0, rows: 1 }, [x], [make(device, 1, C)] as never));
    };
    expect(calls(inside)).toBe(3);
  });

  it("hold no memory once they are released", () => {
    const device = new DryWebGpuDevice({ capabilities, precision: "f16" });
    const before = device.memory().inUse;
    const all = [make(device, M, C), make(device, M, C), make(device, C, C)];
    product(device, [C, C, M], [1, 0], all[0], all[1], all[2]);
    for (const one of all) device.release(one);
    expect(device.memory().inUse).toBe(before);
  });

  it("go together in one dispatch, which gives a large GPU a workgroup for every multiprocessor even at few rows", () => {
    const grids: number[] = [];
    const device = new DryWebGpuDevice({
      capabilities,
      precision: "f16",
      fuse: true,
      onDispatch: ({ kernel, grid: [x, y, z] }) => {
        if (kernel === "matmul_matrix") grids.push(x * y * z);
      },
    });
    // q, k and v, o, gate and up, down of Qwen2.5 0.5B, 1.5B, 3B and 7B, and of Llama 3.2 3B
    for (const [width, keys, inner] of [
      [896, 128, 4864],
      [1536, 256, 8960],
      [2048, 256, 11008],
      [3584, 512, 18944],
      [3072, 1024, 8192],
    ] as const)
      for (const [K, widths] of [
        [width, [width, keys, keys]],
        [width, [width]],
        [width, [inner, inner]],
        [inner, [width]],
      ] as const) {
        const run = device as unknown as Device;
        const x = make(run, 64, K);
        for (const N of widths) product(run, [64, N, K], [0, 1], x, make(run, N, K, "parameter"), make(run, 64, N));
        device.memory();
      }
    expect(grids.length).toBe(20);
    // o of the smallest model has 28 tiles of 4 chunks
    expect(grids.map((groups) => groups >= 132).filter(Boolean).length).toBe(19);
    expect(Math.min(...grids)).toBe(112);
  });
});
