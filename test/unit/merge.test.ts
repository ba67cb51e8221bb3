import { execFileSync, spawnSync } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { saveModelFolder } from "../../src/checkpoint/save-model.ts";
import { openWeights, closeAll } from "../../src/checkpoint/load-model.ts";
import { exportModel } from "../../src/checkpoint/merge.ts";
import { merge, packColumns, type Merged, type MergeJob } from "../../src/checkpoint/merge-kernel.ts";
import { writeSafetensors } from "../../src/checkpoint/safetensors-write.ts";
import type { FloatDtype } from "../../src/checkpoint/save-tensors.ts";
import { main } from "../../src/commands/export.ts";
import { fromF16, toElements, toFloats } from "../../src/tensor/dtype.ts";
import { randomValues } from "../helpers/check-op.ts";
import { randomPairs, writeAdapter } from "../helpers/lora-adapter.ts";
import { tinyConfigs, tinyDecoder, tinyWeights } from "../helpers/tiny-model.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { fromBf16, roundTo } from "../helpers/round-to.ts";

const hasNumpy = spawnSync("python3", ["-c", "import numpy"]).status === 0;
let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "merge-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});
const fresh = (): Promise<string> => mkdtemp(join(folder, "model-"));

/** x times 2^1074, a whole number for every finite float64. */
function fixed(x: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, Math.abs(x));
  const bits = view.getBigUint64(0);
  const exponent = Number(bits >> 52n);
  const mantissa = exponent === 0 ? bits : (bits & (2n ** 52n - 1n)) + 2n ** 52n;
  const size = mantissa << BigInt(Math.max(exponent - 1, 0));
  return x < 0 ? -size : size;
}

/** w + scale (sum of b a) times 2^3222, exactly. */
function exactResult(w: number, scale: number, b: readonly number[], a: readonly number[]): bigint {
  const product = b.reduce((sum, x, k) => sum + fixed(x) * fixed(a[k]!), 0n);
  return (fixed(w) << 2148n) + fixed(scale) * product;
}

/** The value of an element's bits, and those of the numbers next to it. */
function around(bits: number, dtype: FloatDtype): { value: number; below: number; above: number; even: boolean } {
  const signBit = dtype === "f32" ? 2 ** 31 : 2 ** 15;
  const valueOf = (ordinal: number): number => {
    const word = ordinal < 0 ? signBit - ordinal : ordinal;
    if (dtype === "f16") return fromF16(word);
    if (dtype === "bf16") return fromBf16(word);
    return new Float32Array(Uint32Array.of(word).buffer)[0]!;
  };
  const ordinal = bits >= signBit ? signBit - bits : bits;
  return { value: valueOf(ordinal), below: valueOf(ordinal - 1), above: valueOf(ordinal + 1), even: ordinal % 2 === 0 };
}

/** Checks every element against the definition of rounding to nearest, ties to even. */
function expectNearest(job: MergeJob, { data }: Merged, a: Float32Array): void {
  const w = toFloats(job.base, job.baseDtype);
  const words = data instanceof Float32Array ? new Uint32Array(data.buffer) : data;
  for (let i = 0; i < job.rows; i++)
    for (let j = 0; j < job.cols; j++) {
      const [row, column] = [
        [...job.b.subarray(i * job.rank, (i + 1) * job.rank)],
        Array.from({ length: job.rank }, (_, k) => a[k * job.cols + j]!),
      ];
      const exact = exactResult(w[i * job.cols + j]!, job.scale, row, column);
      const { value, below, above, even } = around(words[i * job.cols + j]!, job.dtype);
      const distance = (x: number): bigint => {
        const difference = exact - (fixed(x) << 2148n);
        return difference < 0n ? -difference : difference;
      };
      const own = distance(value);
      for (const other of [below, above]) {
        const theirs = distance(other);
        if (own > theirs || (own === theirs && !even))
          expect.fail(`${job.dtype} [${i}, ${j}]: ${value} is not the nearest, ${other} lies nearer or is even`);
      }
    }
}

function job(fields: Partial<MergeJob> & Pick<MergeJob, "base" | "rows" | "cols" | "rank" | "b">, a: Float32Array): MergeJob {
  return { baseDtype: "f32", dtype: "f32", scale: 1, a: packColumns(a, fields.rank, fields.cols), ...fields };
}

const dtypes = ["f32", "f16", "bf16"] as const;

describe("merged weights", () => {
  for (const baseDtype of dtypes)
    for (const dtype of dtypes)
      it(`of ${baseDtype} are the exact result rounded once to ${dtype}, whatever the sizes`, () => {
        for (const [rows, cols, rank, scale] of [
          [1, 1, 1, 2],
          [5, 7, 3, 32 / 3],
          [9, 34, 16, 1],
          [3, 11, 40, 0.7],
        ] as const) {
          const a = randomValues(rank * cols, 3).map((x) => x / 8);
          const base = toElements(
            randomValues(rows * cols, 1).map((x) => x * 0.1),
            baseDtype,
          ) as Float32Array | Uint16Array;
          const one = job({ base, baseDtype, dtype, rows, cols, rank, scale, b: randomValues(rows * rank, 2).map((x) => x / 64) }, a);
          expectNearest(one, merge(one), a);
        }
      });

  it("are right on a tie and as near to one as no float64 can tell", () => {
    const [rows, cols, rank] = [6, 5, 3];
    for (const [dtype, half] of [
      ["f32", 2 ** -24],
      ["bf16", 2 ** -8],
      ["f16", 2 ** -11],
    ] as const) {
      // 1 and its odd neighbour, moved by half a unit, by a little more and by a little less
      const base = Float32Array.from({ length: rows * cols }, (_, i) => (i % 2 === 0 ? 1 : 1 + 2 * half));
      const a = Float32Array.from({ length: rank * cols }, (_, i) => (i < cols ? half : i < 2 * cols ? 2 ** -70 : -(2 ** -70)));
      const b = Float32Array.from({ length: rows * rank }, (_, i) =>
        i % rank === 0 ? 1 : i % rank === 1 ? (i % 4) * 2 ** -20 : (i % 5) * 2 ** -20,
      );
      const one = job({ base, dtype, rows, cols, rank, b }, a);
      const merged = merge(one);
      expectNearest(one, merged, a);
      expect(merged.exact).toBeGreaterThan(10);
    }
  });

  it("are right where f32 would have been a tie of the narrower type: one rounding, not two", () => {
    // 1 + 2^-8 is halfway between two bf16; 2^-40 above it is not, though f32 cannot tell
    const one = job(
      { base: Float32Array.of(1), dtype: "bf16", rows: 1, cols: 1, rank: 2, b: Float32Array.of(1, 1) },
      Float32Array.of(2 ** -8, 2 ** -40),
    );
    expect(fromBf16(merge(one).data[0]!)).toBe(1 + 2 ** -7);
    expect(roundTo(Math.fround(1 + 2 ** -8 + 2 ** -40), "bf16")).toBe(1);
  });

  it("are right where large products cancel, so that float64 is off by more than the last place of the sum", () => {
    const [rows, cols] = [20, 25];
    const large = randomValues(cols, 7).map((x) => x * 2 ** 28);
    const a = Float32Array.from([...large, ...large.map((x) => x / 0.7)]);
    const b = Float32Array.from({ length: 2 * rows }, (_, i) => randomValues(rows, 8)[i >> 1]! * (i % 2 === 0 ? 1 : -0.7));
    for (const dtype of dtypes) {
      const one = job({ base: randomValues(rows * cols, 9), dtype, rows, cols, rank: 2, scale: 1 / 3, b }, a);
      const merged = merge(one);
      expectNearest(one, merged, a);
      if (dtype === "f32") expect(merged.exact).toBeGreaterThan(5);
    }
  });

  it("are right where the sum is 0 and float64 says something else: the base alone, a tie", () => {
    // 3 * 5 - 5 * 3, with a scale that float64 rounds
    for (const [dtype, half] of [
      ["bf16", 2 ** -8],
      ["f16", 2 ** -11],
    ] as const) {
      const [a, b] = [Float32Array.of(5 * 2 ** 36, -3 * 2 ** 36), Float32Array.of(3, 5)];
      const one = job({ base: Float32Array.of(2 ** -6 * (1 + half)), dtype, rows: 1, cols: 1, rank: 2, scale: 0.1, b }, a);
      expect(0.1 * 3 * a[0]! + 0.1 * 5 * a[1]!).not.toBe(0);
      expectNearest(one, merge(one), a);
    }
  });

  it("are right among the smallest numbers of each type", () => {
    for (const dtype of dtypes) {
      const least = { f32: 2 ** -149, bf16: 2 ** -133, f16: 2 ** -24 }[dtype];
      const base = randomValues(40, 4).map((x) => x * 16 * least);
      const a = randomValues(20, 5);
      const one = job({ base, dtype, rows: 4, cols: 10, rank: 2, b: randomValues(8, 6).map((x) => x * 4 * least) }, a);
      expectNearest(one, merge(one), a);
    }
  });

  it("of a row that the adapter does not change are the base's own bits, -0 too", () => {
    const base = Uint16Array.of(0x8000, 0x3f80, 0x0001, 0xbf81);
    const one = job(
      { base, baseDtype: "bf16", dtype: "bf16", rows: 2, cols: 2, rank: 1, b: Float32Array.of(0, -0) },
      Float32Array.of(3, 4),
    );
    expect(merge(one).data).toEqual(base);
  });

  it("that are too large for the type, or not finite, are told by their place", () => {
    const of = (w: number, dtype: FloatDtype): number => {
      const base = new Float32Array(12).fill(1);
      base[7] = w;
      return merge(job({ base, dtype, rows: 3, cols: 4, rank: 1, b: Float32Array.of(1, 1, 1) }, Float32Array.of(1, 1, 1, 16))).notFinite;
    };
    expect([of(65504 - 16, "f16"), of(65520 - 16, "f16"), of(65519.99 - 16, "f16")]).toEqual([-1, 7, -1]);
    expect([of(3.3e38, "bf16"), of(3.4e38, "bf16"), of(3.4e38, "f32")]).toEqual([-1, 7, -1]);
    for (const dtype of dtypes) expect([of(NaN, dtype), of(Infinity, dtype), of(-Infinity, dtype)]).toEqual([7, 7, 7]);
  });
});

/** A folder with a tiny Llama's weights, a config.json as people have it, and small files. */
async function tinyModel(dtype: FloatDtype): Promise<string> {
  const place = await fresh();
  await saveModelFolder(tinyDecoder(tinyConfigs.llama, new ReferenceDevice()), place, { dtype });
  const config = await readFile(join(place, "config.json"), "utf8");
  await writeFile(
    join(place, "config.json"),
    config.replace('"rms_norm_eps": 0.00001', '"rms_norm_eps": 1e-05,\n   "my_field":   [1.0, 2]'),
  );
  await writeFile(join(place, "generation_config.json"), '{"eos_token_id": [1,  2]}');
  await writeFile(join(place, "tokenizer.json"), "{ }  ");
  await writeFile(join(place, "chat_template.jinja"), "{{ x }}\r\n");
  await writeFile(join(place, "LICENSE"), "as is");
  await writeFile(join(place, "README.md"), "of the base");
  return place;
}

const half = (module: string): number | null => (module.includes("layers.0.mlp") ? null : module.endsWith("q_proj") ? 2 : 4);
const halfFields = { target_modules: "^(?!.*layers.0.mlp).*_proj", rank_pattern: { q_proj: 2 }, use_rslora: true };

describe("exportModel with an adapter", () => {
  it("writes base + scale B A of every pair, and all other tensors and files as they were", async () => {
    const base = await tinyModel("bf16");
    const pairs = randomPairs(tinyConfigs.llama, half);
    const adapter = await writeAdapter(await fresh(), pairs, halfFields);
    const to = join(await fresh(), "merged");
    const done = await exportModel({ base, adapter, to });
    expect(done).toMatchObject({ tensors: 35, merged: 11, files: ["model.safetensors"], dtypes: ["bf16"] });
    const kept = ["LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json"];
    expect((await readdir(to)).sort()).toEqual([...kept, "model.safetensors"].sort());
    for (const name of kept) expect(await readFile(join(to, name)), name).toEqual(await readFile(join(base, name)));
    const [before, after] = [await openWeights(base), await openWeights(to)];
    for (const [name, { entry, file }] of before.found.byName) {
      const found = after.found.byName.get(name)!;
      expect(found.entry, name).toMatchObject({ dtype: "BF16", shape: entry.shape });
      const [old, now] = [(await file.read(name)) as Uint16Array, (await found.file.read(name)) as Uint16Array];
      const module = name.replace(".weight", "");
      const [a, b] = ["A", "B"].map((one) => pairs.get(`base_model.model.${module}.lora_${one}.weight`));
      if (a === undefined || b === undefined) expect(now, name).toEqual(old);
      else {
        const [rank, cols] = a.shape;
        const one = job(
          { base: old, baseDtype: "bf16", dtype: "bf16", rows: b.shape[0], cols, rank, scale: 8 / Math.sqrt(rank), b: b.values },
          a.values,
        );
        expectNearest(one, { data: now as Uint16Array<ArrayBuffer>, notFinite: -1, exact: 0 }, a.values);
        expect(now, name).not.toEqual(old);
      }
    }
    await closeAll([...before.files, ...after.files]);
  });

  it.skipIf(!hasNumpy).each(dtypes)(
    "in %s is read by another program, which finds half a unit in the last place at most (needs python3 with numpy)",
    async (dtype) => {
      const base = await tinyModel("bf16");
      const pairs = randomPairs(tinyConfigs.llama, half);
      const adapter = await writeAdapter(await fresh(), pairs, halfFields, "f16");
      const to = join(await fresh(), "merged");
      await exportModel({ base, adapter, to, dtype, maxShardBytes: 20_000 });
      const script = fileURLToPath(new URL("../reference/merged.py", import.meta.url));
      const errors = JSON.parse(execFileSync("python3", [script, base, adapter, to], { encoding: "utf8" })) as Record<string, number>;
      expect(Object.keys(errors)).toHaveLength(35);
      for (const [name, error] of Object.entries(errors)) {
        const changed = pairs.has(`base_model.model.${name.replace(".weight", "")}.lora_A.weight`);
        // numpy's own sum has 64 bits
        expect(error, name).toBeLessThanOrEqual(1 + 1e-9);
        if (changed) expect(error, name).toBeGreaterThan(0.5);
      }
    },
  );

  it("refuses base and adapter that do not fit, and leaves nothing behind", async () => {
    const base = await tinyModel("f32");
    const parent = await fresh();
    const adapter = await writeAdapter(
      await fresh(),
      randomPairs(tinyConfigs.qwen3, () => 4),
      { target_modules: "all-linear" },
    );
    await expect(exportModel({ base, adapter, to: join(parent, "x") })).rejects.toThrow(
      /have another shape: (.|\n)*made for "Qwen\/Qwen2.5-0.5B"/,
    );
    const broken = randomPairs(tinyConfigs.llama, () => 4);
    broken.get("base_model.model.model.layers.1.mlp.up_proj.lora_B.weight")!.values[6] = NaN;
    await expect(exportModel({ base, adapter: await writeAdapter(await fresh(), broken), to: join(parent, "x") })).rejects.toThrow(
      /layers.1.mlp.up_proj.weight" \[1, 0\]: .*adapter is not finite/,
    );
    expect(await readdir(parent)).toEqual([]);
  });
});

describe("exportModel", () => {
  it("changes the type of a head that repeats a tied embedding, too, and leaves the frequencies of old checkpoints as they are", async () => {
    const base = await fresh();
    await saveModelFolder(tinyDecoder(tinyConfigs.qwen2, new ReferenceDevice()), base, { dtype: "f32" });
    const { files, found } = await openWeights(base);
    const extra = [...found.byName].map(([name, { file, entry }]) => ({ name, like: name, shape: entry.shape, file }));
    const embedding = extra.find(({ name }) => name === "model.embed_tokens.weight")!;
    const norm = extra.find(({ name }) => name === "model.norm.weight")!;
    extra.push({ ...embedding, name: "lm_head.weight" }, { ...norm, name: "model.layers.0.self_attn.rotary_emb.inv_freq" });
    const all = await Promise.all(
      extra.map(async ({ name, like, shape, file }) => {
        const data = (await file.read(like)) as Float32Array<ArrayBuffer>;
        const cols = shape.at(-1)!;
        const read = (row: number, rows: number) =>
          Promise.resolve(shape.length < 2 ? data : data.subarray(row * cols, (row + rows) * cols));
        return { name, shape, dtype: "f32" as const, read };
      }),
    );
    await closeAll(files);
    await writeSafetensors(join(base, "model.safetensors"), all);
    const to = join(await fresh(), "new");
    expect((await exportModel({ base, to, dtype: "bf16" })).tensors).toBe(all.length);
    const after = await openWeights(to);
    const dtypeOf = (name: string): string => after.found.byName.get(name)!.entry.dtype;
    expect([dtypeOf("lm_head.weight"), dtypeOf("model.layers.0.self_attn.rotary_emb.inv_freq")]).toEqual(["BF16", "F32"]);
    const [head, table] = await Promise.all(
      ["lm_head.weight", "model.embed_tokens.weight"].map((name) => after.found.byName.get(name)!.file.read(name)),
    );
    expect(head).toEqual(table);
    await closeAll(after.files);
  });

  for (const [from, to] of [
    ["f32", "bf16"],
    ["f32", "f16"],
    ["bf16", "f32"],
    ["f16", "bf16"],
  ] as const)
    it(`turns ${from} into ${to} by one rounding, in shards that their index names, with config.json changed in that one field`, async () => {
      const base = await tinyModel(from);
      const place = join(await fresh(), "new");
      const seen: number[] = [];
      const done = await exportModel({ base, to: place, dtype: to, maxShardBytes: 12_000, onProgress: (bytes) => seen.push(bytes) });
      expect(done.files.length).toBeGreaterThan(2);
      expect(seen.at(-1)).toBe(done.bytes);
      expect(seen).toEqual([...seen].sort((x, y) => x - y));
      const index = JSON.parse(await readFile(join(place, "model.safetensors.index.json"), "utf8"));
      expect(index.metadata.total_size).toBe(done.bytes);
      const { files, found } = await openWeights(place);
      for (const [name, values] of tinyWeights(tinyConfigs.llama)) {
        expect(found.byName.get(name)!.file.path).toBe(join(place, index.weight_map[name]));
        expect(await found.byName.get(name)!.file.read(name), name).toEqual(toElements(toFloats(toElements(values, from), from), to));
      }
      for (const file of files)
        expect([
          file.metadata,
          (file.tensors.size > 1 ? [...file.tensors.values()] : []).reduce((sum, { start, end }) => sum + end - start, 0) <= 12_000,
        ]).toEqual([{ format: "pt" }, true]);
      await closeAll(files);
      const torch = { f32: "float32", bf16: "bfloat16", f16: "float16" };
      const text = await readFile(join(base, "config.json"), "utf8");
      expect(text).toContain('1e-05,\n   "my_field":   [1.0, 2]');
      expect(await readFile(join(place, "config.json"), "utf8")).toBe(
        text.replace(`"torch_dtype": "${torch[from]}"`, `"torch_dtype": "${torch[to]}"`),
      );
    });

  it("refuses numbers that f16 cannot hold, by their place", async () => {
    const base = await fresh();
    const decoder = tinyDecoder(tinyConfigs.qwen2, new ReferenceDevice());
    const values = tinyWeights(tinyConfigs.qwen2).get("model.layers.1.mlp.up_proj.weight")!;
    values[25] = -70000;
    decoder.parameters().get("model.layers.1.mlp.up_proj.weight")!.write(values);
    await saveModelFolder(decoder, base);
    const to = join(await fresh(), "new");
    await expect(exportModel({ base, to, dtype: "f16" })).rejects.toThrow(
      /"model.layers.1.mlp.up_proj.weight" \[1, 1\]: a number is too large for f16; expected at most 65504 in size, got -70000\n.*bf16 or f32/,
    );
    expect((await exportModel({ base, to, dtype: "bf16" })).merged).toBe(0);
  });

  it("replaces nothing but a model, and not the one it reads", async () => {
    const base = await tinyModel("f32");
    const place = await fresh();
    await cp(base, place, { recursive: true });
    const refused = /will not be replaced.*got README.md/;
    await expect(exportModel({ base, to: place })).rejects.toThrow(refused);
    await rm(join(place, "README.md"));
    await writeFile(join(place, "model.safetensors"), "an older one");
    await exportModel({ base, to: place });
    expect(await readFile(join(place, "model.safetensors"))).toEqual(await readFile(join(base, "model.safetensors")));
    await rm(join(base, "README.md"));
    await expect(exportModel({ base, to: `${base}/.` })).rejects.toThrow(/is the folder that is read/);
    const other = await fresh();
    await writeFile(join(other, "LICENSE"), "mine");
    await expect(exportModel({ base, to: other })).rejects.toThrow(/holds no config.json, so it is no model/);
    await expect(exportModel({ base, to: join(other, "LICENSE") })).rejects.toThrow(/will not be replaced.*got a file/);
    expect(await readdir(other)).toEqual(["LICENSE"]);
  });
});

describe("zerosearch export", () => {
  /** What the program prints. */
  async function run(argv: readonly string[]): Promise<string> {
    let text = "";
    const spy = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
      text += String(chunk);
      return true;
    });
    try {
      await main(argv);
      return text;
    } finally {
      spy.mockRestore();
    }
  }

  it("merges, converts and shards, and says what it wrote", async () => {
    const base = await tinyModel("f32");
    const adapter = await writeAdapter(await fresh(), randomPairs(tinyConfigs.llama, half), halfFields);
    const to = join(await fresh(), "new");
    const text = await run(["--from", base, "--to", to, "--adapter", adapter, "--dtype", "bf16", "--shard-gb", "0.000012"]);
    expect(text).toMatch(
      /rank 4, alpha 8, scaled by alpha \/ sqrt\(rank\), made for Qwen\/Qwen2.5-0.5B; its lora_dropout 0.05 is for training and is not applied/,
    );
    expect(text).toMatch(/writing .*1\/1 █+.*\n35 tensors, 11 of them merged: \d+ KiB of bf16 in \d+ files, written to .*new in /);
    const expected = join(await fresh(), "expected");
    await exportModel({ base, adapter, to: expected, dtype: "bf16", maxShardBytes: 12_000 });
    for (const name of await readdir(expected)) expect(await readFile(join(to, name)), name).toEqual(await readFile(join(expected, name)));
  });

  it("tells what is wrong with its arguments", async () => {
    await expect(run(["--to", "x"])).rejects.toThrow(/--from is missing/);
    await expect(run(["--from", "x", "--to", ""])).rejects.toThrow(/--to is missing/);
    await expect(run(["--from", "x", "--to", "y", "--dtype", "int4"])).rejects.toThrow(
      /--dtype: wrong value; expected f32, bf16, f16, got int4/,
    );
    await expect(run(["--from", "x", "--to", "y", "--shard-gb", "0"])).rejects.toThrow(/--shard-gb: wrong value/);
    expect(await run(["--help"])).toMatch(/--adapter FOLDER/);
  });
});
