/** Machine code of the CPU device: the same bits as the WASM kernels, on every set of vectors; how it is called, and where it is refused. */
import { createHash } from "node:crypto";
import koffi from "koffi";
import { describe, expect, it } from "vitest";
import { CpuMemory } from "../../src/device/cpu/memory.ts";
import { compileKernels, loadKernelsFromDist, type KernelExports } from "../../src/device/cpu/module.ts";
import { Assembler, Reg } from "../../src/device/cpu/native/assembler.ts";
import { attendBackwardCode } from "../../src/device/cpu/native/attend-backward.ts";
import { attendCode } from "../../src/device/cpu/native/attend.ts";
import { bindNative, executable, nativeCode, noNative } from "../../src/device/cpu/native/executable.ts";
import { featureCode, vectorSets } from "../../src/device/cpu/native/features.ts";
import { packCode, packColumnsCode } from "../../src/device/cpu/native/pack.ts";
import { rowCode } from "../../src/device/cpu/native/rows.ts";
import { productCode, type VectorSet } from "../../src/device/cpu/native/products.ts";
import type { Device, Dtype, HostArray, Storage, Usage } from "../../src/device/device.ts";
import { makeDevice } from "../helpers/device.ts";

const sets = (["AVX2", "AVX-512"] as const).filter((set) => "code" in nativeCode(set));
// a machine without is told by the first line of the log, not by silence
const here = describe.skipIf(sets.length === 0);

let seed = 7;
const random = (): number => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32) * 4 - 2;
const whole = (most: number): number => Math.floor((Math.abs(random()) / 2) * most);

interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly transA: 0 | 1;
  readonly transB: 0 | 1;
  readonly bias: boolean;
  readonly accumulate: 0 | 1;
  readonly usage: Usage;
  readonly dtype: Dtype;
}
type Values = Readonly<Record<"a" | "b" | "c" | "v", Float32Array>>;

const bits = (x: HostArray): Uint32Array => new Uint32Array(x.buffer, x.byteOffset, x.byteLength / 4);
/** The upper half of every float: all patterns are numbers of either 16-bit type. */
const halves = (x: Float32Array): Uint16Array => Uint16Array.from(bits(x), (word) => word >>> 16);

async function multiply(device: Device, product: Product, values: Values): Promise<Uint32Array> {
  const { M, N, K, transA, transB, accumulate, bias, usage, dtype } = product;
  const [a, b, c, v] = [
    device.allocate(transA === 1 ? K : M, transA === 1 ? M : K, "f32", "activation", "a"),
    device.allocate(transB === 1 ? N : K, transB === 1 ? K : N, dtype, usage, "b"),
    device.allocate(M, N, "f32", "activation", "c"),
    bias ? device.allocate(1, N, "f32", "activation", "v") : null,
  ];
  device.write(a, values.a);
  device.write(b, dtype === "f32" ? values.b : halves(values.b));
  device.write(c, values.c);
  if (v !== null) device.write(v, values.v);
  device.run("matmul", { M, N, K, transA, transB, accumulate }, [a, b, v], [c]);
  const out = bits(await device.read(c));
  for (const storage of [a, b, c, v]) if (storage !== null) device.release(storage);
  return out;
}

function differing(got: Uint32Array, want: Uint32Array): number {
  return want.reduce((count, word, i) => count + (word === got[i] ? 0 : 1), 0);
}

here("products in machine code", () => {
  it(
    "have the bits of the WASM kernels: all forms, odd sizes, types, special numbers, threads and shards",
    { timeout: 300_000 },
    async () => {
      const wasm = await makeDevice({ native: "off", threads: 1 });
      const natives = await Promise.all(
        sets.flatMap((native) => [
          makeDevice({ native, threads: 1 }),
          makeDevice({ native, threads: 2 }),
          makeDevice({ native, threads: 2, maxShardBytes: 65536 }),
        ]),
      );
      const shapes: [number, number, number][] = [
        [300, 1030, 320],
        [64, 320, 1024],
        [260, 96, 700],
        [1, 4096, 320],
        [7, 1, 1],
        [13, 9, 259],
      ];
      for (let rows = 1; rows <= 32; rows++) shapes.push([rows, 1 + whole(200), 1 + whole(300)]);
      for (let i = 0; i < 60; i++) shapes.push([1 + whole(i % 3 === 0 ? 170 : 12), 1 + whole(70), 1 + whole(i % 2 === 0 ? 350 : 20)]);
      let elements = 0;
      for (const [i, [M, N, K]] of shapes.entries()) {
        const values = {
          a: Float32Array.from({ length: M * K }, random),
          b: Float32Array.from({ length: N * K }, random),
          c: Float32Array.from({ length: M * N }, random),
          v: Float32Array.from({ length: N }, random),
        };
        if (i % 4 === 0) {
          values.a[0] = Infinity;
          values.b[1 % values.b.length] = -0;
          values.a[values.a.length >> 1] = 1e-40;
          values.b[values.b.length >> 1] = NaN;
        }
        const either = (): 0 | 1 => (random() > 0 ? 1 : 0);
        const product: Product = {
          ...{ M, N, K, transA: either(), transB: either(), accumulate: either(), bias: either() === 1 },
          usage: either() === 1 ? "parameter" : "activation",
          dtype: (["f32", "f32", "f16", "bf16"] as const)[whole(4)] ?? "f32",
        };
        const want = await multiply(wasm, product, values);
        elements += want.length;
        for (const device of natives) {
          const wrong = differing(await multiply(device, product, values), want);
          expect(wrong, `${JSON.stringify(product)} on ${device.detail ?? ""}: elements that differ`).toBe(0);
        }
      }
      expect(elements).toBeGreaterThan(300_000);
      for (const device of [wasm, ...natives]) await device.destroy();
    },
  );

  it("are those of log_prob and its backward too", async () => {
    const run = async (device: Device, n: number, C: number, V: number): Promise<Uint32Array[]> => {
      seed = n;
      const place = (rows: number, cols: number, dtype: Dtype, data: HostArray | null) => {
        const storage = device.allocate(rows, cols, dtype, "activation", "x");
        if (data !== null) device.write(storage, data);
        return storage;
      };
      const floats = (length: number, scale = 1): Float32Array => Float32Array.from({ length }, () => random() * scale);
      const h = place(n, C, "f32", floats(n * C)),
        w = place(V, C, "f32", floats(V * C, 0.05)),
        t = place(
          1,
          n,
          "u32",
          Uint32Array.from({ length: n }, () => whole(V)),
        );
      const out = [0, 1, 2].map(() => place(1, n, "f32", null));
      device.run("log_prob", { temperature: 0.9 }, [h, w, t], out);
      const dh = place(n, C, "f32", new Float32Array(n * C)),
        dw = place(V, C, "f32", new Float32Array(V * C)),
        g = place(1, n, "f32", floats(n));
      device.run("log_prob_backward", { temperature: 0.9 }, [h, w, t, out[1] ?? null, out[2] ?? null, g, null], [dh, dw]);
      return Promise.all([...out, dh, dw].map(async (storage) => bits(await device.read(storage))));
    };
    for (const [n, C, V] of [
      [37, 320, 1100],
      [5, 96, 1000],
      [130, 64, 503],
    ] as const) {
      const wasm = await makeDevice({ native: "off", threads: 1 });
      const want = await run(wasm, n, C, V);
      await wasm.destroy();
      for (const native of sets) {
        const device = await makeDevice({ native, threads: 2 });
        expect(await run(device, n, C, V)).toEqual(want);
        await device.destroy();
      }
    }
  });

  it("read 16-bit weights as they are for few rows: no copy as floats is kept, and the bits are those of one", async () => {
    const N = 540; // 67 panels and a half: fours, and ones
    const run = async (native: VectorSet | "off", rows: readonly number[], K = 1032): Promise<[number, Uint32Array[]]> => {
      const device = await makeDevice({ native, threads: 2 });
      const w = device.allocate(N, K, "bf16", "parameter", "w");
      seed = 3;
      device.write(w, halves(Float32Array.from({ length: N * K }, random)));
      const before = device.memory().inUse;
      const results: Uint32Array[] = [];
      for (const M of rows) {
        const [x, y] = [device.allocate(M, K, "f32", "activation", "x"), device.allocate(M, N, "f32", "activation", "y")];
        device.write(x, Float32Array.from({ length: M * K }, random));
        device.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [x, w, null], [y]);
        results.push(bits(await device.read(y)));
        device.release(x);
        device.release(y);
      }
      const kept = device.memory().inUse - before;
      await device.destroy();
      return [kept, results];
    };
    const few = [1, 2, 3, 4, 5, 8];
    for (const K of [1032, 1030, 8, 264]) {
      const [keptByWasm, want] = await run("off", few, K);
      expect(keptByWasm).toBeGreaterThanOrEqual(N * K * 4);
      for (const native of sets) {
        expect(await run(native, few, K)).toEqual([0, want]);
        expect((await run(native, [1, 8, 9], K))[0]).toBeGreaterThanOrEqual(N * K * 4);
      }
    }
  });

  it.each([
    ["nt", 0, 1],
    ["nn", 0, 0],
    ["tn", 1, 0],
  ] as const)("are not called with addresses outside of the memory, %s: the kernel traps", async (_, transA, transB) => {
    for (const native of sets) {
      const { kernels, memory } = await bare(native);
      const [rows, depth, columns] = [12, 16, 64];
      const shape = (r: number, c: number) => ({ rows: r, cols: c, dtype: "f32", usage: "activation", label: "x" }) as const;
      const [a, b, c] = [
        memory.allocate(transA === 1 ? shape(depth, rows) : shape(rows, depth)),
        memory.allocate(transB === 1 ? shape(columns, depth) : shape(depth, columns)),
        memory.allocate(shape(rows, columns)),
      ];
      const dims = [rows, columns, depth, transA, transB, 0];
      new Float64Array(memory.memory.buffer, memory.args, 16).set(dims);
      memory.words.set([a.descriptor, b.descriptor, 0, c.descriptor], memory.args / 4 + dims.length * 2);
      memory.words[memory.args / 4 - 1] = memory.take(kernels.scratchBytes(MATMUL, memory.args) >>> 0, {
        kind: "scratch",
        label: "scratch",
      });
      const run = (): number => kernels.run(memory.control, MATMUL, memory.args, memory.places[0]?.scratch ?? 0, 0, 0);
      expect(run()).toBe(0);
      // a pitch that leads out of the memory, which is far smaller than 4 GiB
      for (const { descriptor } of [a, b, c]) {
        const at = descriptor / 4 + 3,
          pitch = memory.words[at] ?? 0;
        memory.words[at] = 0x3ffffff0;
        expect(run).toThrow("memory access out of bounds");
        memory.words[at] = pitch;
      }
      expect(run()).toBe(0);
    }
  });
});

interface Heads {
  readonly H: number;
  readonly K: number;
  readonly D: number;
}

/** Forward and backward over packed sequences, then the same tokens into a paged cache of each type: all outputs, as bits. */
async function attend(device: Device, { H, K, D }: Heads, lengths: readonly number[], strange: boolean): Promise<Uint32Array[]> {
  seed = 1 + H * 1000 + D + lengths.length;
  const N = lengths.reduce((sum, length) => sum + length, 0);
  const made: Storage[] = [];
  const place = (rows: number, cols: number, dtype: Dtype, data: HostArray | null): Storage => {
    const storage = device.allocate(rows, cols, dtype, "activation", "x");
    made.push(storage);
    if (data !== null) device.write(storage, data);
    return storage;
  };
  const floats = (rows: number, cols: number): Storage => {
    const data = Float32Array.from({ length: rows * cols }, random);
    if (strange) data[7 % data.length] = 1e-40;
    if (strange) data[(data.length >> 1) + 1] = 400;
    return place(rows, cols, "f32", data);
  };
  const q = floats(N, H * D),
    k = floats(N, K * D),
    v = floats(N, K * D),
    dout = floats(N, H * D);
  const ends = lengths.map((_, i) => lengths.slice(0, i + 1).reduce((sum, length) => sum + length, 0));
  const offsets = place(1, lengths.length + 1, "u32", Uint32Array.from([0, ...ends]));
  const empty = (cols: number, rows = N): Storage => place(rows, cols, "f32", null);
  const dims = { heads: H, kvHeads: K, scale: D ** -0.5 };
  const out = empty(H * D),
    lse = empty(H);
  device.run("attention", dims, [q, k, v, offsets], [out, lse]);
  const gradients = [empty(H * D), empty(K * D), empty(K * D)];
  device.run("attention_backward", dims, [q, k, v, offsets, out, lse, dout], gradients);
  const results = [out, lse, ...gradients];

  const blocks = lengths.map((length) => Math.ceil(length / 64));
  const width = Math.max(1, ...blocks);
  let next = 0;
  const table = blocks.flatMap((count) => Array.from({ length: width }, (_, i) => (i < count ? next++ : 0)));
  const blockTable = place(lengths.length, width, "u32", Uint32Array.from(table));
  const positions = place(1, N, "u32", Uint32Array.from(lengths.flatMap((length) => Array.from({ length }, (_, i) => i))));
  // the last token of every sequence alone, as in decoding
  const nonEmpty = lengths.map((length, i) => [length, i] as const).filter(([length]) => length > 0);
  const last = Uint32Array.from(nonEmpty, ([length]) => length - 1);
  const rows = place(1, Math.max(1, last.length), "u32", last.length === 0 ? Uint32Array.of(0) : last);
  const one = place(
    1,
    last.length + 1,
    "u32",
    Uint32Array.from({ length: last.length + 1 }, (_, i) => i),
  );
  const lastTable = nonEmpty.flatMap(([, i]) => table.slice(i * width, (i + 1) * width));
  const few = place(
    Math.max(1, last.length),
    width,
    "u32",
    Uint32Array.from(lastTable.length === 0 ? new Array<number>(width).fill(0) : lastTable),
  );
  const query = floats(Math.max(1, last.length), H * D);
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    const kCache = place(Math.max(1, next), K * D * 64, dtype, null),
      vCache = place(Math.max(1, next), K * 64 * D, dtype, null);
    device.run("kv_write", { kvHeads: K }, [k, v, positions, offsets, blockTable], [kCache, vCache]);
    const [prefill, decode] = [empty(H * D), empty(H * D, Math.max(1, last.length))];
    device.run("attention_paged", dims, [q, positions, offsets, blockTable, kCache, vCache], [prefill]);
    device.run("attention_paged", dims, [query, rows, one, few, kCache, vCache], [decode]);
    results.push(prefill, decode);
  }
  const read = await Promise.all(results.map(async (storage) => bits(await device.read(storage))));
  for (const storage of made) device.release(storage);
  return read;
}

here("attention in machine code", () => {
  it("has the bits of the WASM kernels: forward, backward, paged in every type", { timeout: 300_000 }, async () => {
    const cases: [Heads, number[]][] = [
      [{ H: 5, K: 1, D: 64 }, [130, 1, 63, 64, 65, 7]],
      [{ H: 4, K: 2, D: 32 }, [200, 3]],
      [{ H: 3, K: 3, D: 24 }, [70, 128]],
      [{ H: 2, K: 1, D: 4 }, [77, 2, 1]],
      [{ H: 6, K: 2, D: 12 }, [90]],
      [{ H: 2, K: 2, D: 128 }, [100, 33]],
      [{ H: 7, K: 1, D: 20 }, [81, 5]],
      [{ H: 14, K: 2, D: 96 }, [68]],
      // longer than 512: dq in a pass of its own where two threads share one head
      [{ H: 2, K: 1, D: 64 }, [530, 20]],
      [{ H: 1, K: 1, D: 8 }, [601]],
      [{ H: 2, K: 1, D: 16 }, [0, 9, 0, 66]],
    ];
    const wasm = await makeDevice({ native: "off", threads: 1, poison: false });
    const natives = await Promise.all(
      sets.flatMap((native) => [makeDevice({ native, threads: 1 }), makeDevice({ native, threads: 2, maxShardBytes: 16384 })]),
    );
    for (const [heads, lengths] of cases)
      for (const strange of [false, true]) {
        const want = await attend(wasm, heads, lengths, strange);
        for (const device of natives)
          for (const [i, got] of (await attend(device, heads, lengths, strange)).entries())
            expect(
              differing(got, want[i] ?? got),
              `output ${i} of ${JSON.stringify(heads)}, ${lengths.join()} on ${device.detail ?? ""}`,
            ).toBe(0);
      }
    for (const device of [wasm, ...natives]) await device.destroy();
  });

  it("makes the same no-numbers of scores that are none", async () => {
    const run = async (native: VectorSet | "off"): Promise<boolean[]> => {
      const device = await makeDevice({ native, threads: 1 });
      const [N, D] = [9, 8];
      const data = Float32Array.from({ length: N * D }, (_, i) => Math.sin(i));
      data[3 * D + 1] = NaN;
      data[6 * D + 2] = Infinity;
      const place = (rows: number, cols: number, dtype: Dtype, values: HostArray): Storage => {
        const storage = device.allocate(rows, cols, dtype, "activation", "x");
        device.write(storage, values);
        return storage;
      };
      const x = place(N, D, "f32", data);
      const v = place(N, D, "f32", data.map(Math.fround));
      const k = place(N, D, "f32", data.slice());
      const out = device.allocate(N, D, "f32", "activation", "out"),
        lse = device.allocate(N, 1, "f32", "activation", "lse");
      device.run("attention", { heads: 1, kvHeads: 1, scale: 1 }, [x, k, v, place(1, 2, "u32", Uint32Array.of(0, N))], [out, lse]);
      const results = [...(await device.read(out)), ...(await device.read(lse))].map(Number.isNaN);
      await device.destroy();
      return results;
    };
    const want = await run("off");
    expect(want.some(Boolean)).toBe(true);
    expect(want.every(Boolean)).toBe(false);
    for (const native of sets) expect(await run(native)).toEqual(want);
  });
});

/** matmul's row in the table of kernels. */
const MATMUL = 5;

/** One thread's kernels with machine code, without a device around them. */
async function bare(set: VectorSet): Promise<{ kernels: KernelExports; memory: CpuMemory }> {
  const memory = new CpuMemory({ threads: 1, maxShardBytes: 2 ** 30, maxMemoryBytes: 2 ** 28, poison: false });
  const { module } = await compileKernels(loadKernelsFromDist, "relaxed");
  const native = nativeCode(set);
  const imports = "code" in native ? bindNative(native.code, memory.memory) : noNative;
  const { exports } = await WebAssembly.instantiate(module, { env: { memory: memory.memory, abort() {}, ...imports } });
  const kernels = exports as unknown as KernelExports;
  kernels.useNative(memory.places[0]?.block ?? 0);
  return { kernels, memory };
}

describe("machine code", () => {
  // `node scripts/list-native.js` lists the instructions. A change of the code is a change of these.
  it("is the same bytes on every machine", () => {
    const sha = (code: Uint8Array): string => createHash("sha256").update(code).digest("hex").slice(0, 16);
    const all = (["sysv", "win64"] as const).flatMap((abi) => [
      `${abi} features ${sha(featureCode(abi))}`,
      `${abi} packRows ${sha(packCode(abi))}`,
      `${abi} packColumns ${sha(packColumnsCode(abi))}`,
      `${abi} rows ${sha(rowCode(abi))}`,
      ...(["AVX2", "AVX-512"] as const).flatMap((set) =>
        Object.entries({ products: productCode, attend: attendCode, attendBackward: attendBackwardCode }).map(
          ([name, code]) => `${abi} ${name} ${set} ${sha(code(set, abi))}`,
        ),
      ),
    ]);
    expect(all).toMatchInlineSnapshot(`
      [
        "sysv features 84d748c21e051fdc",
        "sysv packRows 69593614ff3aab4b",
        "sysv packColumns 227fb8009dcf3f0a",
        "sysv rows f80a030c22fa6aef",
        "sysv products AVX2 0e07987547a2b07c",
        "sysv attend AVX2 29c8207ebfa2dca7",
        "sysv attendBackward AVX2 b50d9592f181740e",
        "sysv products AVX-512 e7064da3d189c27a",
        "sysv attend AVX-512 c7be1e8e901b9e3b",
        "sysv attendBackward AVX-512 fe2a8830765418a8",
        "win64 features fdb44e1745f8a472",
        "win64 packRows 0af467cf7fa83bcd",
        "win64 packColumns 874bb3e4a9badc9f",
        "win64 rows 1319a7328a5fefc5",
        "win64 products AVX2 d6156fa29aeb2bb0",
        "win64 attend AVX2 999cf4b79a040ff4",
        "win64 attendBackward AVX2 941003c9c9285e81",
        "win64 products AVX-512 bf095c96758b202f",
        "win64 attend AVX-512 3bca92fde2e34f78",
        "win64 attendBackward AVX-512 b1c2bfd6fecd2b25",
      ]
    `);
  });

  it("takes AVX-512 and AVX2 where processor and system have them", () => {
    const [avx2, fma, wide] = [1 << 5, 1 << 12, (1 << 16) | (1 << 31)];
    const words = (one: number, seven: number, xcr0: number, leaves = 7): Uint32Array => Uint32Array.of(leaves, one, seven, xcr0);
    const enabled = fma | (1 << 27) | (1 << 29);
    expect(vectorSets(words(enabled, avx2 | wide, 0xe7))).toEqual(["AVX2", "AVX-512"]);
    expect(vectorSets(words(enabled, avx2 | wide, 0x07))).toEqual(["AVX2"]);
    expect(vectorSets(words(enabled, avx2, 0xe7))).toEqual(["AVX2"]);
    expect(vectorSets(words(enabled, wide, 0xe7))).toEqual([]);
    expect(vectorSets(words(enabled, avx2, 0x03))).toEqual([]);
    expect(vectorSets(words(fma, avx2, 0x07))).toEqual([]);
    expect(vectorSets(words(enabled, avx2, 0x07, 5))).toEqual([]);
  });

  // The code for Windows, called under its convention from Linux or macOS through a shim that looks at what it must leave as it was.
  it.skipIf(sets.length === 0 || process.platform === "win32")("for Windows computes the same, and keeps what is its caller's", () => {
    const bind = (code: Uint8Array): ((memory: number, block: number) => void) =>
      koffi.decode(executable(koffi, code), koffi.proto("void (uintptr_t memory, uint32_t block)")) as (
        memory: number,
        block: number,
      ) => void;
    const shim = bind(windowsShim());
    const values = Float32Array.from({ length: 16384 }, random);
    const compare = (code: (abi: "sysv" | "win64") => Uint8Array, block: readonly number[], what: string): void => {
      const [one, other] = [values.slice(), values.slice()];
      for (const each of [one, other]) new Uint32Array(each.buffer).set(block);
      bind(code("sysv"))(Number(koffi.address(one)), 0);
      const frame = new BigUint64Array(256).map((_, i) => BigInt(i) * 0x0101010101010101n);
      frame.set([executable(koffi, code("win64")), BigInt(Number(koffi.address(other))), 0n]);
      const before = frame.slice();
      shim(Number(koffi.address(frame)), 0);
      const kept = ({ from, to }: typeof KEPT, words: number): boolean =>
        frame.slice(to / 8, to / 8 + words).every((word, i) => word === before[from / 8 + i]);
      expect(differing(bits(one), bits(values)), `${what}: something was written`).toBeGreaterThan(block.length);
      expect([differing(bits(other), bits(one)), kept(KEPT, 8), kept(VECTORS, 20)], what).toEqual([0, true, true]);
    };
    compare(packCode, [32768, 4096, 200, 20, 0, 3, 1024], "rows packed");
    for (const lanes of [5, 8]) compare(packColumnsCode, [32768, 4096, 200, 20, lanes, 3, 1024], `columns packed, ${lanes} lanes`);
    for (const rows of [1, 2, 3, 4]) compare(rowCode, [1024, 8192, 40960, 160, 264, 528, 5, rows, rows & 1], `${rows} rows times bf16`);
    for (const set of sets) {
      for (const rows of [1, 2, 3, 4, 5, 6, 10, 14, 15, 23])
        for (const [panels, depth] of [
          [1, 1],
          [3, 7],
          [11, 4],
        ] as const)
          compare(
            (abi) => productCode(set, abi),
            [1024, 8192, 24576, panels * 32, depth, depth * 32, panels, Math.floor(rows / 5), rows % 5, rows & 1],
            `${set}, ${rows} rows, ${panels} panels, ${depth} deep`,
          );
      // five rows of 8 floats that see 3 keys each: rows, D, n, and then as src/device/cpu/native/attend.ts and attend-backward.ts have it
      new Uint32Array(values.buffer, 256, 5).fill(3);
      compare((abi) => attendCode(set, abi), [5, 8, 256, 0, 0, 4096, 8192, 12288, 320, 384, 16384, 20480, 512], `${set}, forward`);
      const backward = [5, 8, 256, 0, 3, 3, 4096, 8192, 12288, 16384, 20480, 320, 384, 24576, 28672, 32768, 40960, 49152, 512];
      compare((abi) => attendBackwardCode(set, abi), backward, `${set}, backward`);
    }
  });
});

/** Where a frame holds what the callee must keep: 8 registers and 10 vectors, as given and as they came back. */
const KEPT = { from: 64, to: 192 };
const VECTORS = { from: 512, to: 1024 };

/** `void f(void* frame, uint32_t)` under System V: calls frame[0] under Windows' convention with frame[1] and frame[2]. */
function windowsShim(): Uint8Array {
  const x = new Assembler();
  const own = [Reg.rbx, Reg.rbp, Reg.r12, Reg.r13, Reg.r14, Reg.r15];
  const kept = [...own, Reg.rsi, Reg.rdi];
  for (const register of [...own, Reg.rdi]) x.push(register);
  x.sub(Reg.rsp, { value: 32 });
  for (let i = 6; i < 16; i++) x.load(128, i, { base: Reg.rdi, at: VECTORS.from + 16 * (i - 6) });
  x.load64(Reg.rax, { base: Reg.rdi });
  x.load64(Reg.rcx, { base: Reg.rdi, at: 8 });
  x.load64(Reg.rdx, { base: Reg.rdi, at: 16 });
  for (const [i, register] of kept.entries()) x.load64(register, { base: Reg.rdi, at: KEPT.from + 8 * i });
  x.call(Reg.rax);
  x.load64(Reg.rax, { base: Reg.rsp, at: 32 });
  for (const [i, register] of kept.entries()) x.store64({ base: Reg.rax, at: KEPT.to + 8 * i }, register);
  for (let i = 6; i < 16; i++) x.store(128, { base: Reg.rax, at: VECTORS.to + 16 * (i - 6) }, i);
  x.add(Reg.rsp, { value: 40 });
  for (const register of [...own].reverse()) x.pop(register);
  x.ret();
  return x.code();
}
