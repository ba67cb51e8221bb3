import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { ThreadPool } from "../../src/device/cpu/threads.ts";
import { Heap, sizeClass } from "../../src/device/cpu/heap.ts";
import type { Device, Storage } from "../../src/device/device.ts";
import { kernels } from "../../src/device/kernels.ts";
import { DeviceError } from "../../src/util/errors.ts";
import { makeDevice, withDevice } from "../helpers/device.ts";

const f32 = (device: Device, rows: number, cols: number, label = "t"): Storage => device.allocate(rows, cols, "f32", "activation", label);

describe("the kernels' module", () => {
  it("numbers every kernel as its row in the table", () => {
    const source = readFileSync(new URL("../../kernels/wasm/index.ts", import.meta.url), "utf8");
    const defined = [...source.matchAll(/^define\((\d+), (\w+)_items\.index, (\w+)_work\.index(?:, (\w+)_scratch\.index)?\);/gm)];
    expect(defined.map(([, number, name]) => [Number(number), name]).filter(([number]) => Number(number) < 60)).toEqual(
      Object.keys(kernels).map((name, i) => [i, name]),
    );
    for (const [, , items, work, scratch] of defined) expect([work, scratch ?? items]).toEqual([items, items]);
  });

  it("comes in two builds, and says which is used", async () => {
    await withDevice(
      (device) => {
        expect(device.description).toBe("cpu: 1 thread, WASM SIMD mul+add");
        return Promise.resolve();
      },
      { simd: "plain", threads: 1 },
    );
    await withDevice(
      (device) => {
        expect(device.description).toBe("cpu: 2 threads, WASM SIMD relaxed FMA");
        return Promise.resolve();
      },
      { simd: "relaxed", threads: 2 },
    );
  });

  it("is missed with a hint", async () => {
    const loadKernels = (): Promise<Uint8Array> => Promise.resolve(new Uint8Array(4));
    await expect(makeDevice({ loadKernels })).rejects.toThrow("cpu device: this runtime has no WebAssembly SIMD with threads");
  });
});

describe("storages", () => {
  it("return what was written, whole or by rows, over any shards", async () => {
    for (const maxShardBytes of [2 ** 30, 4096, 100, 1]) {
      await withDevice(
        async (device) => {
          for (const [dtype, data] of [
            ["f32", Float32Array.from({ length: 37 * 11 }, (_, i) => i - 9.5)],
            ["u32", Uint32Array.from({ length: 37 * 11 }, (_, i) => 0xffffffff - i)],
            ["f16", Uint16Array.from({ length: 37 * 11 }, (_, i) => i)],
          ] as const) {
            const storage = device.allocate(37, 11, dtype, "activation", "t");
            expect(storage.shards).toBe(Math.ceil(37 / storage.rowsPerShard));
            if (storage.shards > 1) expect(Math.log2(storage.rowsPerShard) % 1).toBe(0);
            device.write(storage, data);
            expect(await device.read(storage)).toEqual(data);
            expect(await device.read(storage, 5, 20)).toEqual(data.slice(55, 275));
            device.write(storage, data.slice(0, 33), 30);
            expect(await device.read(storage, 29, 5)).toEqual(
              new (data.constructor as Float32ArrayConstructor)([
                ...data.slice(29 * 11, 30 * 11),
                ...data.slice(0, 33),
                ...data.slice(33 * 11, 34 * 11),
              ]),
            );
            device.release(storage);
          }
          expect(device.memory().inUse).toBe(0);
        },
        { maxShardBytes, threads: 1 },
      );
    }
  });

  it("hold NaN until written, if poison is asked for", async () => {
    await withDevice(
      async (device) => {
        for (const dtype of ["f32", "f16", "bf16"] as const) {
          const bits = await device.read(device.allocate(3, 3, dtype, "activation", "t"));
          for (const x of bits) expect(dtype === "f32" ? Number.isNaN(x) : (x & 0x7fff) > (dtype === "f16" ? 0x7c00 : 0x7f80)).toBe(true);
        }
      },
      { poison: true, threads: 1 },
    );
  });

  it("work above 2 GiB", async () => {
    await withDevice(
      async (device) => {
        const large = f32(device, 9, 2 ** 26, "large");
        const [a, b] = [f32(device, 20, 300), f32(device, 20, 300)];
        const data = Float32Array.from({ length: 6000 }, (_, i) => i);
        device.write(a, data);
        device.run("add", {}, [a, a], [b]);
        expect(await device.read(b)).toEqual(data.map((x) => 2 * x));
        const [weight, product] = [device.allocate(7, 300, "f32", "parameter", "weight"), f32(device, 20, 7)];
        device.write(weight, new Float32Array(2100).fill(1));
        device.run("matmul", { M: 20, N: 7, K: 300, transA: 0, transB: 1, accumulate: 0 }, [a, weight, null], [product]);
        // 0..299 sum to 44850; row r adds 300 r to each of 300
        expect(await device.read(product)).toEqual(Float32Array.from({ length: 140 }, (_, i) => 44850 + 90000 * Math.floor(i / 7)));
        device.release(large);
      },
      { poison: false, threads: 2 },
    );
  });

  it("are pooled: the memory held does not grow when the same sizes come again", async () => {
    await withDevice(
      (device) => {
        const step = (): void => {
          const held = Array.from({ length: 40 }, (_, i) => f32(device, 1 + (i % 7) * 50, 100 + i));
          for (const storage of [...held.filter((_, i) => i % 2 === 0), ...held.filter((_, i) => i % 2 === 1)]) device.release(storage);
        };
        step();
        const { reserved, peak } = device.memory();
        for (let i = 0; i < 50; i++) step();
        expect(device.memory()).toEqual({ inUse: 0, peak, reserved });
        return Promise.resolve();
      },
      { threads: 1 },
    );
  });

  it("that do not fit are an error that says which, how much was asked and how much is in use", async () => {
    await withDevice(
      (device) => {
        f32(device, 1024, 4096, "first");
        expect(() => f32(device, 1024, 16384, "hidden states")).toThrow(
          /out of memory for hidden states \[1024, 16384\] f32; expected at most 32 MiB in all, got 64 MiB asked with 16 MiB in use\n {2}Lower the tokens/,
        );
        expect(device.memory().inUse).toBe(16 * 2 ** 20);
        return Promise.resolve();
      },
      { threads: 1, maxMemoryBytes: 32 * 2 ** 20 },
    );
  });
});

describe("a call", () => {
  let device: Device | undefined;
  afterEach(async () => {
    await device?.destroy();
  });

  it("that differs from the kernel table is refused before it runs", async () => {
    device = await makeDevice({ threads: 1 });
    const [a, b] = [f32(device, 2, 2, "a"), f32(device, 2, 2, "b")],
      ids = device.allocate(1, 2, "u32", "activation", "ids");
    const run = device.run.bind(device) as (
      kernel: string,
      dims: object,
      inputs: readonly (Storage | null)[],
      outputs: readonly (Storage | null)[],
    ) => void;
    expect(() => run("add", {}, [a], [b])).toThrow("kernel add: wrong number of inputs; expected 2 (a, b), got 1");
    expect(() => run("add", {}, [a, null], [b])).toThrow("kernel add: input b is missing; expected a storage, got null");
    expect(() => run("add", {}, [a, a], [a])).toThrow("kernel add: output a is also an input");
    expect(() => run("add", {}, [a, ids], [b])).toThrow("kernel add: input b (ids) has the wrong dtype; expected f32, got u32");
    expect(() => run("fill", {}, [], [b])).toThrow("kernel fill: dim value is wrong; expected a finite number, got undefined");
    expect(() => run("fill", { value: NaN }, [], [b])).toThrow("expected a finite number, got NaN");
    expect(() => run("fill", { value: 1, rows: 2 }, [], [b])).toThrow("kernel fill: there is no dim rows; expected value");
    expect(() => run("conv", {}, [], [])).toThrow("there is no kernel conv");
  });

  it("with a storage that was released, or of another device, is refused", async () => {
    device = await makeDevice({ threads: 1 });
    const other = await makeDevice({ threads: 1 });
    const [mine, theirs, gone] = [f32(device, 1, 1, "mine"), f32(other, 1, 1, "theirs"), f32(device, 1, 1, "gone")];
    device.release(gone);
    expect(() => device?.run("add", {}, [mine, theirs], [f32(device, 1, 1)])).toThrow("theirs belongs to another device");
    expect(() => device?.run("add", {}, [mine, gone], [f32(device, 1, 1)])).toThrow("gone has been released");
    expect(() => device?.release(gone)).toThrow("release: gone has been released");
    await expect(device.read(gone)).rejects.toThrow("gone has been released");
    await other.destroy();
  });

  it("with rows or data that do not fit is refused", async () => {
    device = await makeDevice({ threads: 1 });
    const storage = f32(device, 2, 3, "t");
    expect(() => device?.write(storage, new Float32Array(4))).toThrow("write t: rows do not fit; expected whole rows of 3 within 0..2");
    expect(() => device?.write(storage, new Float32Array(6), 1)).toThrow("rows do not fit");
    expect(() => device?.write(storage, new Uint16Array(6))).toThrow(
      "write t: the data has the wrong type; expected Float32Array for f32, got Uint16Array",
    );
    await expect(device.read(storage, 1, 2)).rejects.toThrow("rows do not fit");
    expect(() => device?.allocate(0, 3, "f32", "activation", "empty")).toThrow(
      "allocate empty: rows is wrong; expected an integer from 1 to 2^31 - 1, got 0",
    );
  });

  it("after destroy is refused", async () => {
    const ended = await makeDevice({ threads: 2 });
    const storage = f32(ended, 1, 1);
    await ended.destroy();
    for (const use of [
      () => f32(ended, 1, 1),
      () => ended.write(storage, new Float32Array(1)),
      () => ended.run("fill", { value: 1 }, [], [storage]),
      () => ended.memory(),
    ])
      expect(use).toThrow(DeviceError);
    await expect(ended.read(storage)).rejects.toThrow("the CPU device cannot be used: it was destroyed");
    expect(() => ended.release(storage)).not.toThrow();
  });
});

describe("threads", () => {
  it("all take part, and change no bit, also when there are more than cores", async () => {
    const results: unknown[] = [];
    for (const threads of [1, 2, 7]) {
      await withDevice(
        async (device) => {
          const [a, b, c] = [f32(device, 300, 300), f32(device, 300, 300), f32(device, 300, 300)];
          device.write(
            a,
            Float32Array.from({ length: 90000 }, (_, i) => Math.sin(i)),
          );
          device.write(
            b,
            Float32Array.from({ length: 90000 }, (_, i) => Math.cos(i)),
          );
          for (let i = 0; i < 30; i++) {
            device.run("matmul", { M: 300, N: 300, K: 300, transA: i & 1, transB: 0, accumulate: i === 0 ? 0 : 1 }, [a, b, null], [c]);
            if (i % 10 === 0)
              await new Promise((resolve) => {
                setTimeout(resolve, 5);
              });
          }
          results.push(await device.read(c));
        },
        { threads },
      );
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it("that fail say why through the control block", async () => {
    // (module (import "env" "memory" (memory 1 2 shared))
    //   (func (export "serve") (param i32 i32 i32) unreachable) (func (export "useThreads") (param i32)))
    const bytes = Uint8Array.from([
      ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 11, 2, 96, 3, 127, 127, 127, 0, 96, 1, 127, 0],
      ...[2, 16, 1, 3, 101, 110, 118, 6, 109, 101, 109, 111, 114, 121, 2, 3, 1, 2, 3, 3, 2, 0, 1],
      ...[7, 22, 2, 5, 115, 101, 114, 118, 101, 0, 0, 10, 117, 115, 101, 84, 104, 114, 101, 97, 100, 115, 0, 1],
      ...[10, 8, 2, 3, 0, 0, 11, 2, 0, 11],
    ]);
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
    const pool = await ThreadPool.start(
      { module: await WebAssembly.compile(bytes), memory, control: 0, threads: 2, spin: 0, native: null },
      [{ scratch: 4096, block: 0 }],
    );
    for (let i = 0; i < 200 && pool.failure() === undefined; i++)
      await new Promise((resolve) => {
        setTimeout(resolve, 10);
      });
    expect(pool.failure()).toBe("unreachable");
    await pool.stop();
  });
});

describe("the heap", () => {
  it("rounds to classes of at most an eighth more, in whole 64 bytes", () => {
    for (let bytes = 1; bytes < 1e6; bytes = Math.ceil(bytes * 1.07)) {
      expect(sizeClass(bytes) % 64).toBe(0);
      expect(sizeClass(bytes)).toBeGreaterThanOrEqual(bytes);
      expect(sizeClass(bytes)).toBeLessThanOrEqual(Math.max(512, bytes * 1.126));
    }
  });

  it("never hands out a byte twice, and joins what is freed", () => {
    const heap = new Heap(64, 64, 2 ** 26, () => true);
    const live = new Map<number, number>();
    let state = 1;
    const next = (n: number): number => {
      state = (state * 48271) % 0x7fffffff;
      return state % n;
    };
    for (let i = 0; i < 3000; i++) {
      if (live.size > 60 || (live.size > 0 && next(3) === 0)) {
        const [start] = [...live.keys()].slice(next(live.size));
        heap.free(start!);
        live.delete(start!);
      } else {
        const bytes = 1 + next(2 ** (6 + next(13)));
        const start = heap.allocate(bytes)!;
        expect(start % 64).toBe(0);
        for (const [other, length] of live) expect(start + bytes <= other || other + length <= start).toBe(true);
        live.set(start, bytes);
      }
    }
    for (const start of live.keys()) heap.free(start);
    expect(heap.inUse).toBe(0);
    // one range again: nearly all of the space can be had at once
    expect(heap.allocate(2 ** 26 - 2 ** 23)).toBeDefined();
  });
});
