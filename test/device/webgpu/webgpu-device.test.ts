/** The WebGPU device itself: memory, reads and writes, errors. Kernels have tests of their own. */
import { describe, expect, it } from "vitest";
import { dawn, loadWgsl } from "../../../src/device/dawn.ts";
import type { Device } from "../../../src/device/device.ts";
import { makeDevice, withDevice } from "../../helpers/device.ts";
import { disguised } from "../../helpers/disguised-gpu.ts";

function storage(device: Device, rows: number, cols: number, dtype: "f32" | "f16" | "u32" = "f32") {
  return device.allocate(rows, cols, dtype, "activation", "x");
}

describe("memory of the WebGPU device", () => {
  it("gives back what was written, whole and by rows, whatever the width and type", () =>
    withDevice(async (device) => {
      for (const cols of [1, 3, 4, 7, 8, 33]) {
        const f32 = storage(device, 5, cols);
        const values = Float32Array.from({ length: 5 * cols }, (_, i) => i + 0.5);
        device.write(f32, values);
        device.write(f32, values.subarray(0, 2 * cols), 3);
        expect(await device.read(f32, 0, 3)).toEqual(values.slice(0, 3 * cols));
        expect(await device.read(f32, 3)).toEqual(values.slice(0, 2 * cols));
        const f16 = storage(device, 5, cols, "f16");
        const bits = Uint16Array.from({ length: 5 * cols }, (_, i) => i + 1);
        device.write(f16, bits);
        expect(await device.read(f16)).toEqual(bits);
        expect(await device.read(f16, 1, 2)).toEqual(bits.slice(cols, 3 * cols));
      }
    }));
  it("splits rows over shards and reads across them", () =>
    withDevice(
      async (device) => {
        const x = storage(device, 700, 3, "u32");
        expect([x.shards, x.rowsPerShard]).toEqual([3, 256]);
        const values = Uint32Array.from({ length: 2100 }, (_, i) => i);
        device.write(x, values);
        expect(await device.read(x)).toEqual(values);
        device.write(x, values.subarray(0, 9), 255);
        expect(await device.read(x, 254, 5)).toEqual(Uint32Array.from([762, 763, 764, 0, 1, 2, 3, 4, 5, 6, 7, 8, 774, 775, 776]));
      },
      { maxShardBytes: 256 },
    ));
  it("counts bytes, uses freed buffers again and forgets nothing", () =>
    withDevice(async (device) => {
      const before = device.memory();
      const x = storage(device, 100, 100);
      expect(device.memory().inUse).toBeGreaterThanOrEqual(before.inUse + 40000);
      device.release(x);
      const reserved = device.memory().reserved;
      for (let i = 0; i < 20; i++) device.release(storage(device, 100, 100));
      expect(device.memory().reserved).toBe(reserved);
      expect(device.memory().inUse).toBe(before.inUse);
    }));
  it("reads what was there when it was asked, not what was written later", () =>
    withDevice(async (device) => {
      const x = storage(device, 1, 4);
      device.write(x, Float32Array.of(1, 2, 3, 4));
      const first = device.read(x);
      device.write(x, Float32Array.of(5, 6, 7, 8));
      const second = device.read(x);
      expect([await first, await second]).toEqual([Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8)]);
    }));
});

describe("errors of the WebGPU device", () => {
  it("says what was asked and what is in use when memory runs out", () =>
    withDevice(
      async (device) => {
        storage(device, 100, 100);
        expect(() => storage(device, 1000, 1000)).toThrow(/out of memory for x \[1000, 1000\] f32.*\n?.*MiB asked with .* in use/);
      },
      { maxMemoryBytes: 1 << 20, poison: false },
    ));
  it("refuses storages of others, released ones, rows that do not fit, and any use after its end", async () => {
    const device = await makeDevice();
    const other = await makeDevice();
    const x = storage(device, 2, 2);
    const y = storage(other, 2, 2);
    expect(() => device.write(y, new Float32Array(4))).toThrow(/belongs to another device/);
    expect(() => device.write(x, new Float32Array(3))).toThrow(/rows do not fit/);
    expect(() => device.write(x, new Uint32Array(4))).toThrow(/wrong type/);
    device.release(x);
    expect(() => device.write(x, new Float32Array(4))).toThrow(/has been released/);
    await device.destroy();
    expect(() => storage(device, 1, 1)).toThrow(/destroyed/);
    await other.destroy();
  });
});

/** Runs `fn` on a device, and gives it the GPUDevice behind it to break. */
async function withRaw(fn: (device: Device, raw: GPUDevice) => Promise<void>): Promise<void> {
  let raw: GPUDevice | undefined;
  const gpu = disguised(await dawn(), { onDevice: (opened) => (raw = opened) });
  await withDevice((device) => fn(device, raw as GPUDevice), { gpu });
}

describe("after an error of the GPU", () => {
  it("nothing goes on: every later call throws what went wrong first", () =>
    withRaw(async (device, raw) => {
      const x = storage(device, 4, 4);
      device.write(x, new Float32Array(16));
      raw.createBuffer({ size: 16, usage: 0x80 | 0x1 }); // a combination that is not allowed, in no error scope
      await expect(device.synchronize()).rejects.toThrow(/usage/i);
      expect(() => device.run("fill", { value: 1 }, [], [x])).toThrow(/kernel fill .*usage/is);
      expect(() => storage(device, 1, 1)).toThrow(/usage/i);
      await expect(device.read(x)).rejects.toThrow(/usage/i);
    }));
  it("a device that is lost says so in every later call", () =>
    withRaw(async (device, raw) => {
      const x = storage(device, 4, 4);
      raw.destroy();
      await raw.lost;
      expect(() => device.write(x, new Float32Array(16))).toThrow(/destroyed|lost/);
      await expect(device.read(x)).rejects.toThrow(/destroyed|lost/);
    }));
  it("a kernel that does not compile stops the device and names its file and line", async () => {
    const sources = new Map(await loadWgsl());
    const text = sources.get("add") ?? "";
    sources.set("add", text.replace("a[p.a_start + i] +", "a[p.a_start + i] @"));
    await withDevice(
      async (device) => {
        const x = storage(device, 4, 4);
        device.run("add", {}, [x, x], [storage(device, 4, 4)]);
        const line = text.split("\n").findIndex((one) => one.includes("a[p.a_start + i] +")) + 1;
        await expect(device.synchronize()).rejects.toThrow(new RegExp(`kernels/wgsl/add.wgsl:${line}`));
      },
      { sources },
    );
  });
});

describe("the way to the GPU", () => {
  // one that this system cannot have
  const foreign = process.platform === "win32" ? "metal" : "d3d12";

  it("is the one that is asked for, or an error that says so: no other is taken", async () => {
    await expect(makeDevice({ backend: foreign })).rejects.toThrow(new RegExp(`there is no adapter through ${foreign}`));
    if (process.platform === "linux") await (await makeDevice({ backend: "vulkan" })).destroy();
  });
});
