/** Captured work on the device under test, and vectors that are written in part. */
import { describe, expect, it } from "vitest";
import type { Device, Storage } from "../../src/device/device.ts";
import { testDevice, withDevice } from "../helpers/device.ts";

/** Elements of a storage that is no small one. */
const size = 40_000;

function vector(device: Device, value: number, label = "vector"): Storage {
  const storage = device.allocate(1, size, "f32", "activation", label);
  device.write(storage, new Float32Array(size).fill(value));
  return storage;
}

/** y = (x + x) + x, with what lies in between made and freed inside. */
const tripled = (device: Device, x: () => Storage, y: Storage) => (): void => {
  const twice = device.allocate(1, size, "f32", "activation", "twice");
  device.run("add", {}, [x(), x()], [twice]);
  device.run("add", {}, [twice, x()], [y]);
  device.release(twice);
};

const first = async (device: Device, storage: Storage): Promise<number> => (await device.read(storage))[size - 1]!;

describe("captured work", () => {
  it("holds no memory for others to miss while it does not run, and gives all of it back", async () => {
    await withDevice(async (device) => {
      const [x, y] = [vector(device, 1), vector(device, 0)];
      const before = device.memory().inUse;
      const replay = device.capture!(tripled(device, () => x, y));
      // The CPU keeps the list of calls.
      expect(device.memory().inUse - before).toBeLessThan(4 * size);
      for (const value of [2, 5]) {
        device.write(x, new Float32Array(size).fill(value));
        expect(replay.run()).toBe(true);
        expect(await first(device, y)).toBe(3 * value);
      }
      replay.dispose();
      expect(device.memory().inUse).toBe(before);
    });
  });

  it("runs anew where the memory that it used is in use by others, and leaves theirs alone", async () => {
    await withDevice(async (device) => {
      const [x, y] = [vector(device, 1), vector(device, 0)];
      const replay = device.capture!(tripled(device, () => x, y));
      const others = Array.from({ length: 4 }, (_, i) => vector(device, 10 + i, "another's"));
      expect(replay.run()).toBe(testDevice === "cpu"); // the CPU finds other memory each time
      expect(await first(device, y)).toBe(3);
      for (const [i, other] of others.entries()) expect(await first(device, other)).toBe(10 + i);
      device.write(x, new Float32Array(size).fill(7));
      expect(replay.run()).toBe(true);
      expect(await first(device, y)).toBe(21);
      for (const [i, other] of others.entries()) expect(await first(device, other)).toBe(10 + i);
      replay.dispose();
    });
  });

  it("runs anew where a storage that it named has gone", async () => {
    await withDevice(async (device) => {
      const y = vector(device, 0);
      let x = vector(device, 1);
      const replay = device.capture!(tripled(device, () => x, y));
      device.release(x);
      x = vector(device, 4);
      expect(replay.run()).toBe(false);
      expect(await first(device, y)).toBe(12);
      expect(replay.run()).toBe(true);
      replay.dispose();
    });
  });
});

describe("a vector", () => {
  it("is written in part from any element on, in the order of what was asked for", async () => {
    await withDevice(async (device) => {
      const vector = device.allocate(1, 7, "u32", "activation", "vector");
      const copy = device.allocate(1, 7, "f32", "activation", "copy");
      const floats = device.allocate(1, 7, "f32", "activation", "floats");
      device.write(vector, Uint32Array.of(1, 2, 3, 4, 5, 6, 7));
      device.write(vector, Uint32Array.of(30, 40), 2);
      device.write(floats, new Float32Array(7).fill(1));
      device.run("add", {}, [floats, floats], [copy]);
      device.write(floats, Float32Array.of(9), 6);
      expect([...(await device.read(vector))]).toEqual([1, 2, 30, 40, 5, 6, 7]);
      expect([...(await device.read(copy))]).toEqual([2, 2, 2, 2, 2, 2, 2]);
      expect([...(await device.read(floats))]).toEqual([1, 1, 1, 1, 1, 1, 9]);
      for (const [data, at] of [[2, 6] as const, [1, 7] as const, [1, -1] as const])
        expect(() => device.write(vector, new Uint32Array(data), at)).toThrow(/elements do not fit/);
    });
  });

  it("of 16-bit elements is written whole", async () => {
    await withDevice((device) => {
      const vector = device.allocate(1, 7, "f16", "activation", "vector");
      expect(() => device.write(vector, new Uint16Array(2), 2)).toThrow(/rows do not fit/);
      return Promise.resolve();
    });
  });
});
