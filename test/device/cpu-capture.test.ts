import { describe, expect, it } from "vitest";
import { createDryCpuDevice } from "../../src/device/cpu/cpu-device.ts";
import { CapturedCalls, Recording } from "../../src/device/cpu/capture.ts";
import { CpuMemory } from "../../src/device/cpu/memory.ts";
import type { Device, HostArray, Storage } from "../../src/device/device.ts";
import { makeDevice, withDevice } from "../helpers/device.ts";

const [K, N] = [24, 16];

/** y = rmsNorm(x W^T + x2) W2^T in memory of its own, with what lies in between made and freed inside. */
interface Program {
  readonly x: Storage;
  readonly bias: Storage;
  readonly weight: Storage;
  readonly y: Storage;
  readonly work: () => void;
}

function program(device: Device, M = 5): Program {
  const [x, bias, y] = [M, M, M].map((rows, i) => device.allocate(rows, [K, N, K][i]!, "f32", "activation", "given"));
  const [weight, second] = [device.allocate(N, K, "f32", "parameter", "weight"), device.allocate(K, N, "f32", "parameter", "second")];
  const norm = device.allocate(1, N, "f32", "parameter", "norm");
  const work = (): void => {
    const make = (cols: number): Storage => device.allocate(M, cols, "f32", "activation", "made");
    const z = make(N);
    device.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [x!, weight, null], [z]);
    const sum = make(N);
    device.run("add", {}, [z, bias!], [sum]);
    device.release(z);
    const [normed, rstd] = [make(N), make(1)];
    device.run("rms_norm", { groups: 1, eps: 1e-5 }, [sum, norm], [normed, rstd]);
    device.release(sum);
    device.release(rstd);
    device.run("matmul", { M, N: K, K: N, transA: 0, transB: 1, accumulate: 0 }, [normed, second, null], [y!]);
    device.release(normed);
  };
  for (const [storage, seed] of [
    [x, 1],
    [bias, 2],
    [weight, 3],
    [second, 4],
    [norm, 5],
  ] as const)
    write(device, storage!, seed);
  return { x: x!, bias: bias!, weight, y: y!, work };
}

function write(device: Device, storage: Storage, seed: number): void {
  device.write(
    storage,
    Float32Array.from({ length: storage.rows * storage.cols }, (_, i) => Math.sin(seed * 100 + i)),
  );
}

/** What the work gives when it is asked for call by call on a device of its own, with x and the weight written from these seeds. */
async function expected([x, weight]: readonly [number, number], M?: number): Promise<HostArray> {
  return withDevice(async (device) => {
    const fresh = program(device, M);
    write(device, fresh.x, x);
    write(device, fresh.weight, weight);
    fresh.work();
    return device.read(fresh.y);
  });
}

describe("captured calls of the CPU", () => {
  it.each([{ threads: 1 }, { threads: 2 }, { threads: 2, maxShardBytes: 256 }])(
    "give the bits of calls one by one, with what was written meanwhile, weights too: %j",
    async (options) => {
      await withDevice(async (device) => {
        const { x, weight, y, work } = program(device);
        const replay = device.capture!(work);
        expect(await device.read(y)).toEqual(await expected([1, 3]));
        const moved: Storage[] = [];
        for (const [i, seeds] of (
          [
            [6, 3],
            [6, 7],
            [8, 7],
          ] as const
        ).entries()) {
          write(device, x, seeds[0]);
          write(device, weight, seeds[1]);
          // what is made inside lies elsewhere then
          moved.push(device.allocate(64 * (i + 1), 16, "f32", "activation", "in the way"));
          replay.run();
          expect(await device.read(y)).toEqual(await expected(seeds));
        }
        replay.dispose();
      }, options);
    },
  );

  it.each([
    [5, { threads: 1 }],
    [5, { threads: 2 }],
    [23, { threads: 1 }],
    [23, { threads: 2 }],
    [23, { threads: 3 }],
    [23, { threads: 2, maxShardBytes: 256 }],
  ])("that go by row compute the first rows only, as many as each run asks for: %d rows, %j", async (M, options) => {
    await withDevice(async (device) => {
      const { x, bias, weight, y, work } = program(device, M);
      const replay = device.capture!(work, { rows: M, storages: [x, bias, y] });
      for (const seed of [3, 9]) {
        write(device, weight, seed);
        const whole = await expected([1, seed], M);
        for (const rows of [3, 1, 23, 8, 12, 5, 4, 22]) {
          device.write(y, new Float32Array(M * K));
          replay.run(rows);
          expect(await device.read(y), `${rows} rows`).toEqual(whole.map((value, i) => (i < rows * K ? value : 0)));
        }
      }
      replay.dispose();
    }, options);
  });

  // 193 rows are 64, 65 and 64 for three threads.
  it("that go by row are run together each time that one share would want more scratch than was captured", () => {
    const memory = new CpuMemory({ threads: 3, maxShardBytes: 2 ** 30, maxMemoryBytes: 2 ** 28, poison: false });
    const shape = { rows: 260, cols: 4, dtype: "f32", usage: "activation", label: "x" } as const;
    const [x, y] = [memory.allocate(shape), memory.allocate(shape)];
    const recording = new Recording();
    const dims = [260, 4, 4, 0, 0, 0];
    const call = { id: 5, kernel: "matmul", dims, storages: [x, x, null, y], outputs: [y], operand: undefined, kept: false } as const;
    recording.called({ ...call, scratchBytes: 64 });
    const calls = CapturedCalls.of(memory, recording, { rows: 260, storages: [x, y] }, 3);
    const ran: string[] = [];
    const kernels = {
      run: () => void ran.push("together"),
      runApart: () => void ran.push("apart"),
      // as many bytes as a share has rows; none for all of them
      scratchBytes: (_: number, args: number) => {
        const rows = new Float64Array(memory.memory.buffer, args, 1)[0]!;
        return rows > 100 ? 0 : rows;
      },
    };
    for (const rows of [193, 193, 192, 193]) calls?.run(kernels, rows);
    expect(ran).toEqual(["together", "together", "apart", "together"]);
  });

  it("that go by row do nothing for no rows, and refuse what is no number of rows", async () => {
    await withDevice(async (device) => {
      const { x, bias, y, work } = program(device);
      const replay = device.capture!(work, { rows: 5, storages: [x, bias, y] });
      const whole = await device.read(y);
      replay.run(0);
      for (const rows of [-1, 2.5, NaN])
        expect(() => {
          replay.run(rows);
        }).toThrow(`replay: wrong number of rows; expected a whole number, 0 or more, got ${String(rows)}`);
      replay.run(5);
      expect(await device.read(y)).toEqual(whole);
    });
  });

  it("that go by row are held once for every thread that can do them alone: at least 4 rows each", async () => {
    const held = async (threads: number, rows: number): Promise<number> => {
      const device = await makeDevice({ threads });
      const { x, bias, y, work } = program(device, rows);
      work();
      const before = device.memory().inUse;
      device.capture!(work, { rows, storages: [x, bias, y] });
      const after = device.memory().inUse;
      await device.destroy();
      return after - before;
    };
    const [one, two, three] = await Promise.all([held(1, 13), held(2, 13), held(3, 13)]);
    expect([two, three].map((bytes) => Math.floor(bytes / one))).toEqual([2, 3]);
    expect([await held(4, 13), await held(2, 7)]).toEqual([three, await held(1, 7)]);
  });

  it("hold call blocks only, and run in the memory that the calls one by one need", async () => {
    await withDevice(async (device) => {
      const { work } = program(device);
      work();
      const before = device.memory().inUse;
      device.resetPeak();
      work();
      const { peak } = device.memory();
      const replay = device.capture!(work);
      expect(device.memory().inUse - before).toBeLessThan(2048);
      device.resetPeak();
      replay.run();
      expect(device.memory().peak - device.memory().inUse).toBeLessThanOrEqual(peak - before);
      replay.dispose();
      expect(device.memory().inUse).toBe(before);
    });
  });

  it("go on when panels had to give way", async () => {
    const device = await makeDevice({ threads: 1, maxMemoryBytes: 2 ** 23 });
    const { x, y, work } = program(device);
    const replay = device.capture!(work);
    const { inUse } = device.memory();
    const hoard: Storage[] = [];
    for (let rows = 2 ** 14; rows >= 1;) {
      try {
        hoard.push(device.allocate(rows, 16, "f32", "activation", "hoard"));
      } catch {
        rows /= 2;
      }
    }
    const held = hoard.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(device.memory().inUse - held).toBeLessThan(inUse); // so panels are gone
    for (const storage of hoard) device.release(storage);
    write(device, x, 6);
    replay.run();
    expect(await device.read(y)).toEqual(await expected([6, 3]));
    await device.destroy();
  });

  it("that name what has been released are refused, as those that were disposed of", async () => {
    await withDevice(async (device) => {
      const { x, work } = program(device);
      const replay = device.capture!(work);
      device.release(x);
      expect(() => {
        replay.run();
      }).toThrow("given has been released");
      const other = program(device);
      const disposed = device.capture!(other.work);
      disposed.dispose();
      expect(() => {
        disposed.run();
      }).toThrow("replay: it has been disposed of");
    });
  });

  it("that a list cannot repeat are asked for again: a product by one parameter in two orientations", async () => {
    await withDevice(async (device) => {
      const [x, y, z] = [8, 8, 8].map((rows) => device.allocate(rows, 8, "f32", "activation", "given"));
      const weight = device.allocate(8, 8, "f32", "parameter", "weight");
      for (const [storage, seed] of [
        [x, 1],
        [weight, 2],
      ] as const)
        write(device, storage!, seed);
      const sizes = { M: 8, N: 8, K: 8, transA: 0, accumulate: 0 };
      let asked = 0;
      const replay = device.capture!(() => {
        asked++;
        device.run("matmul", { ...sizes, transB: 0 }, [x!, weight, null], [y!]);
        device.run("matmul", { ...sizes, transB: 1 }, [y!, weight, null], [z!]);
      });
      const first = await device.read(z!);
      replay.run();
      expect([asked, await device.read(z!)]).toEqual([2, first]);
    });
  });

  it.each([1, 2])("take the same of a device that only counts, %d threads", async (threads) => {
    const dry = await createDryCpuDevice({ threads });
    const real = await makeDevice({ threads, poison: false });
    const reports = [dry, real].map((device) => {
      const { x, bias, y, work } = program(device, 8);
      const replay = device.capture!(work, { rows: 8, storages: [x, bias, y] });
      replay.run();
      const { inUse, peak } = device.memory();
      replay.dispose();
      return [inUse, peak, device.memory().inUse];
    });
    expect(reports[0]).toEqual(reports[1]);
    await real.destroy();
  });
});
