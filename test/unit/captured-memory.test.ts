/** Where captured work of the WebGPU device lies, on a device that computes nothing: nothing that outlives it may lie in what it writes. */
import { describe, expect, it } from "vitest";
import type { Storage } from "../../src/device/device.ts";
import { genericGpu } from "../../src/device/kinds/webgpu.ts";
import { DryWebGpuDevice } from "../../src/device/webgpu/dry-device.ts";
import type { WebGpuStorage } from "../../src/device/webgpu/storage.ts";

interface Taped {
  readonly kernel: string;
  readonly ids: readonly number[];
}

function world(more: { readonly maxMemoryBytes?: number } = {}) {
  const tape: Taped[] = [];
  const device = new DryWebGpuDevice({
    ...{ capabilities: genericGpu.capabilities, precision: "f16", fuse: true, notes: false },
    onDispatch: ({ kernel, buffers }) => tape.push({ kernel, ids: buffers.map(({ id }) => id) }),
    ...more,
  });
  const allocate = (rows: number, cols: number, usage: "activation" | "parameter" = "activation"): Storage =>
    device.allocate(rows, cols, "f32", usage, "storage");
  const product = (x: Storage, w: Storage, y: Storage): void =>
    device.run("matmul", { M: 128, N: 128, K: 128, transA: 0, transB: 1, accumulate: 0 }, [x, w, null], [y]);
  /** Takes memory of the size of a packed operand, writes to it, and gives it back. */
  const passing = (): void => {
    const two = [allocate(128, 64), allocate(128, 64)];
    for (const one of two) device.run("fill", { value: 0 }, [], [one]);
    for (const one of two) device.release(one);
    device.memory(); // what is held back is recorded
  };
  return { device, tape, allocate, product, passing };
}
const idsOf = (storage: Storage): number[] => (storage as WebGpuStorage).buffers.map(({ id }) => id);
const copiesOf = (storage: Storage): number[] => [...(storage as WebGpuStorage).derived.values()].map(({ buffer }) => buffer.id);

describe("captured work", () => {
  it("has a parameter's copy, made inside for the first time, where it writes nothing else", () => {
    const { device, tape, allocate, product, passing } = world();
    const [x, w, y] = [allocate(128, 128), allocate(128, 128, "parameter"), allocate(128, 128)];
    const replay = device.capture(() => {
      passing();
      product(x, w, y);
      device.memory();
    });
    const written = tape.filter(({ kernel }) => kernel === "fill").flatMap(({ ids }) => ids);
    expect(written).toHaveLength(2);
    expect(copiesOf(w)).toHaveLength(1);
    expect(written).not.toContain(copiesOf(w)[0]);
    expect(replay.run()).toBe(true);
  });

  it("does not run where an operand that it packs has been given to another", () => {
    const { device, tape, allocate, product } = world();
    const [x, w, y] = [allocate(128, 128), allocate(128, 128, "parameter"), allocate(128, 128)];
    const replay = device.capture(() => {
      product(x, w, y);
    });
    const packed = tape.filter(({ kernel }) => kernel === "matmul_pack").map(({ ids }) => ids.at(-1)!);
    const others = Array.from({ length: 4 }, () => allocate(128, 64));
    const taken = others.flatMap(idsOf).some((id) => packed.includes(id) && !copiesOf(w).includes(id));
    expect(replay.run()).toBe(!taken);
    for (const other of others) device.release(other);
    expect(replay.run()).toBe(true);
  });

  it("is recorded each time where what it made stays, or where memory that it used was given back to the system", () => {
    const kept = world();
    const x = kept.allocate(128, 128);
    const stays: Storage[] = [];
    const replay = kept.device.capture(() => {
      kept.passing();
      const y = kept.allocate(128, 64);
      kept.device.run("fill", { value: 1 }, [], [y]);
      stays.push(y);
    });
    expect([replay.run(), replay.run(), stays.length]).toEqual([false, false, 3]);
    expect(new Set(stays.flatMap(idsOf)).size).toBe(3);

    const short = world({ maxMemoryBytes: 320_000 });
    const [a, b] = [short.allocate(128, 128), short.allocate(128, 128)];
    const large = short.device.capture(() => {
      const t = short.allocate(128, 128);
      short.device.run("add", {}, [a, a], [t]);
      short.device.run("add", {}, [t, a], [b]);
      short.device.release(t);
      short.device.memory();
      const u = short.allocate(128, 300);
      short.device.run("fill", { value: 0 }, [], [u]);
      short.device.release(u);
    });
    expect(large.run()).toBe(false);
    expect(idsOf(x)).toHaveLength(1);
  });
});
