/** Calls that run as one give the bits of the calls one by one, in fewer dispatches. */
import { describe, expect, it } from "vitest";
import type { Device, Dtype, Storage } from "../../../src/device/device.ts";
import type { WebGpuDevice } from "../../../src/device/webgpu/webgpu-device.ts";
import { loraLayers } from "../../../src/ops/lora.ts";
import { fromHost, type Tensor } from "../../../src/tensor/tensor.ts";
import { randomValues } from "../../helpers/check-op.ts";
import { withDevice } from "../../helpers/device.ts";

const INACTIVE = 0xffffffff;

function random(device: Device, rows: number, cols: number, seed: number): Storage {
  const storage = device.allocate(rows, cols, "f32", "activation", `random ${seed}`);
  device.write(storage, randomValues(rows * cols, seed));
  return storage;
}
function words(device: Device, values: readonly number[]): Storage {
  const storage = device.allocate(1, values.length, "u32", "activation", "words");
  device.write(storage, Uint32Array.from(values));
  return storage;
}
function empty(device: Device, rows: number, cols: number, dtype: Dtype = "f32"): Storage {
  return device.allocate(rows, cols, dtype, "activation", "output");
}

/** What `run` reads back with and without fusion, and how many dispatches each took. */
async function both(
  run: (device: Device) => Promise<Storage[]>,
  precision: "f32" | "f16" = "f32",
): Promise<{ readonly saved: number; readonly matrices: boolean }> {
  const once = (fuse: boolean): Promise<{ bits: Uint32Array[]; dispatches: number; matrices: boolean }> =>
    withDevice(
      async (device) => {
        const before = (device as WebGpuDevice).counts.dispatches;
        const outputs = await run(device);
        const bits = [];
        for (const output of outputs) bits.push(new Uint32Array(((await device.read(output)) as Float32Array).buffer));
        const { counts, capabilities } = device as WebGpuDevice;
        return { bits, dispatches: counts.dispatches - before, matrices: capabilities.matrix !== null };
      },
      { fuse, precision, guard: false }, // its dispatches would count
    );
  const fused = await once(true);
  const plain = await once(false);
  expect(fused.bits).toEqual(plain.bits);
  return { saved: plain.dispatches - fused.dispatches, matrices: fused.matrices };
}

describe("calls that run as one", () => {
  it("add and the norm of its sum: any width, rows that end inside a workgroup", async () => {
    for (const [N, C] of [
      [1, 4],
      [5, 7],
      [70, 64],
      [3, 130],
      [9, 896],
    ] as const) {
      const { saved } = await both(async (device) => {
        const [a, b, weight] = [random(device, N, C, 1), random(device, N, C, 2), random(device, 1, C, 3)];
        const [h, y, rstd] = [empty(device, N, C), empty(device, N, C), empty(device, N, 1)];
        device.run("add", {}, [a, b], [h]);
        device.run("rms_norm", { groups: 1, eps: 1e-6 }, [h, weight], [y, rstd]);
        return [h, y, rstd];
      });
      expect(saved).toBe(1);
    }
  });

  it("rope of queries and of keys, inactive tokens among them, forward and back", async () => {
    for (const D of [4, 12, 64]) {
      for (const inverse of [0, 1]) {
        const { saved } = await both(async (device) => {
          const N = 9;
          const [q, k, table] = [random(device, N, 6 * D, 1), random(device, N, 2 * D, 2), random(device, 20, D, 3)];
          const positions = words(device, [0, 1, 19, INACTIVE, 4, 5, 6, 7, 3]);
          const outputs = [empty(device, N, 6 * D), empty(device, N, 2 * D)];
          for (const output of outputs) device.run("fill", { value: 0 }, [], [output]);
          device.run("rope", { heads: 6, inverse }, [q, positions, table], [outputs[0]!]);
          device.run("rope", { heads: 2, inverse }, [k, positions, table], [outputs[1]!]);
          return outputs;
        });
        expect(saved).toBe(1);
      }
    }
  });

  it.each([
    [1, [96, 32, 32], 300, true], // of small models, and of LoRA
    [5, [200, 136], 1100, false],
    [64, [257, 130, 129], 520, true],
    [65, [257, 130, 129], 520, true],
    [300, [264, 140, 128], 700, true],
    [300, [264, 140, 128], 700, false],
  ] as const)("linear layers of %i rows of one input, %j wide, %i deep, with biases: %s", async (M, widths, K, biases) => {
    const { saved, matrices } = await both(async (device) => {
      const a = random(device, M, K, 1);
      const outputs = widths.map((N) => empty(device, M, N));
      const layers = widths.map((N, i) => {
        const b = device.allocate(N, K, "f32", "parameter", `layer ${i}`);
        device.write(b, randomValues(N * K, 10 + i));
        // the second layer has none in any case
        const bias = biases && i !== 1 ? random(device, 1, N, 20 + i) : null;
        return { N, b, bias };
      });
      for (const [i, { N, b, bias }] of layers.entries())
        device.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [a, b, bias], [outputs[i]!]);
      return outputs;
    }, "f16");
    // a product and the sum of its chunks each, together one of both
    expect(saved).toBe(matrices ? (widths.length - 1) * 2 : 0);
  });

  it("layers with LoRA pairs: the layers in one, and the narrow sides of their pairs in another", async () => {
    const [M, K, rank] = [33, 300, 16];
    const { saved, matrices } = await both(async (device) => {
      const matrix = (rows: number, cols: number, seed: number): Tensor =>
        fromHost(device, randomValues(rows * cols, seed), [rows, cols], { usage: "parameter" });
      const x = fromHost(device, randomValues(M * K, 1), [M, K]);
      const layers = [256, 128, 128].map((N, i) => ({
        weight: matrix(N, K, 10 + i),
        bias: null,
        pair: { a: matrix(rank, K, 20 + i), b: matrix(N, rank, 30 + i), scale: 2 },
      }));
      return loraLayers(x, layers).map(({ storage }) => storage);
    }, "f16");
    expect(saved).toBe(matrices ? 2 * 2 * 2 : 0);
  });

  it("what is released between the calls is not given to the second one's output", async () => {
    await both(async (device) => {
      const [a, b, weight] = [random(device, 6, 64, 1), random(device, 6, 64, 2), random(device, 1, 64, 3)];
      const h = empty(device, 6, 64);
      device.run("add", {}, [a, b], [h]);
      device.release(a);
      device.release(b);
      const [y, rstd] = [empty(device, 6, 64), empty(device, 6, 1)];
      device.run("rms_norm", { groups: 1, eps: 1e-6 }, [h, weight], [y, rstd]);
      return [h, y];
    });
  });

  it("a call that waits for a partner runs before anything that follows it: a read, a write to its input, another kernel", async () => {
    await both(async (device) => {
      const [a, b] = [random(device, 6, 64, 1), random(device, 6, 64, 2)];
      const [h, twice, later] = [empty(device, 6, 64), empty(device, 6, 64), empty(device, 6, 64)];
      device.run("add", {}, [a, b], [h]);
      device.write(a, new Float32Array(6 * 64).fill(3));
      device.run("add", {}, [h, a], [twice]);
      device.run("add", {}, [twice, twice], [later]);
      return [h, twice, later];
    });
  });
});
