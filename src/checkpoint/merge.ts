/**
 * From a model's folder to another: a LoRA adapter merged into its weights, their type changed, the files sharded anew. Files in, files
 * out, some tens of MiB at a time; no device.
 */
import { copyFile, readdir, realpath, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { foldedCols } from "../tensor/shape.ts";
import { toFloats } from "../tensor/dtype.ts";
import { FileError, ZeroSearchError } from "../util/errors.ts";
import { exists, writeFolderAtomic } from "./atomic.ts";
import { belongsToModel, CONFIG, configWithDtype, copyCompanions, refuseForeign, writeShards } from "./folder-files.ts";
import { closeAll, loadConfig, openWeights, readConfigText, weightRules, weightShapes } from "./load-model.ts";
import { compareTensors, floatDtypes, inFileOrder, type FileTensor } from "./load-tensors.ts";
import { merge, packColumns, type MergeJob } from "./merge-kernel.ts";
import type { AdapterPair } from "./peft-config.ts";
import { openAdapter, pairNames, type OpenAdapter } from "./peft.ts";
import { sourceBytes, type TensorSource } from "./safetensors-write.ts";
import type { FloatDtype } from "./save-tensors.ts";

export interface ExportOptions {
  /** Folder of the model. */
  readonly base: string;
  /** Folder of a LoRA adapter to be merged into it. */
  readonly adapter?: string | undefined;
  /** The new folder: absent, empty, or a model's, which is then replaced. */
  readonly to: string;
  /** Type of all weights in the new files; each keeps its own unless told. */
  readonly dtype?: FloatDtype | undefined;
  /** Most bytes of tensors in a file, 5 GB unless told; a larger tensor has a file of its own. */
  readonly maxShardBytes?: number | undefined;
  /** Bytes of tensors written so far, from 0, and in the end. What it throws breaks off the export, which then leaves nothing. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Exported {
  readonly tensors: number;
  /** Tensors that the adapter changed. */
  readonly merged: number;
  /** Of tensors. */
  readonly bytes: number;
  /** Names of the weight files. */
  readonly files: readonly string[];
  /** Types of the tensors in them. */
  readonly dtypes: readonly FloatDtype[];
}

/**
 * Writes a model's folder anew. With an adapter its weights are W + scale B A, the exact result rounded once to the type of the file, ties to
 * even. config.json stays as it is but for the type of the weights; generation_config.json, tokenizer, chat
 * templates and licence are the same bytes. The new folder appears all at once.
 * @throws FileError for what is missing or malformed in base or adapter, for a folder that may not be replaced, and for a failed write.
 * @throws ConfigError for a model or adapter with features that are not supported, and for a wrong `maxShardBytes`.
 * @throws ZeroSearchError for a number that is too large for the new type, or not finite. Nothing is changed in all these cases.
 */
export async function exportModel(options: ExportOptions): Promise<Exported> {
  const { base, to, dtype, maxShardBytes } = options;
  const config = await loadConfig(base);
  await refuseTarget(options);
  const { files, found } = await openWeights(base);
  let adapter: OpenAdapter | null = null;
  try {
    compareTensors(base, found, weightShapes(config), weightRules(config));
    adapter = options.adapter === undefined ? null : await openAdapter(options.adapter, config);
    const writer = new Rewriter(adapter, dtype);
    const tensors = [...found.byName.values()].sort(inFileOrder).map((tensor) => writer.source(tensor));
    const total = tensors.reduce((sum, tensor) => sum + sourceBytes(tensor), 0);
    writer.onWritten = (done) => options.onProgress?.(done, total);
    options.onProgress?.(0, total);
    let names: readonly string[] = [];
    await writeFolderAtomic(to, async (temporary) => {
      if (dtype === undefined) await copyFile(join(base, CONFIG), join(temporary, CONFIG));
      else await writeFile(join(temporary, CONFIG), configWithDtype(await readConfigText(base), dtype, join(base, CONFIG)));
      await copyCompanions(base, temporary);
      names = await writeShards(temporary, tensors, maxShardBytes);
    });
    return {
      tensors: tensors.length,
      merged: adapter?.pairs.length ?? 0,
      bytes: total,
      files: names,
      dtypes: [...new Set(tensors.map((tensor) => tensor.dtype as FloatDtype))],
    };
  } finally {
    await closeAll(adapter === null ? files : [...files, adapter.file]);
  }
}

/** @throws FileError where writing would lose a folder that is no model's, or one that is being read. */
async function refuseTarget({ base, adapter, to }: ExportOptions): Promise<void> {
  const refuse = (what: string, expected: string, hint?: string): never => {
    throw new FileError({ where: to, what, expected, hint });
  };
  await refuseForeign(to, belongsToModel, "a model");
  if (!(await exists(to))) return;
  if ((await readdir(to)).length > 0 && !(await exists(join(to, CONFIG))))
    refuse("will not be replaced: it holds no config.json, so it is no model", "no such folder, an empty one, or a model");
  const place = await realpath(to);
  for (const read of adapter === undefined ? [base] : [base, adapter])
    if ((await realpath(read)) === place) refuse("is the folder that is read", "another folder", "give --to a folder of its own");
}

/** The matrices of one pair, in host memory. */
interface LoadedPair {
  readonly pair: AdapterPair;
  readonly a: MergeJob["a"];
  /** [rows, rank] */
  readonly b: Float32Array;
}

/** Makes the tensors of the new files out of the old ones. */
class Rewriter {
  /** Called with the bytes made so far. */
  onWritten: (done: number) => void = () => undefined;
  readonly #adapter: OpenAdapter | null;
  readonly #pairs: ReadonlyMap<string, AdapterPair>;
  readonly #dtype: FloatDtype | undefined;
  #done = 0;
  /** The pair in use: tensors are written one after the other. */
  #current: LoadedPair | null = null;

  constructor(adapter: OpenAdapter | null, dtype: FloatDtype | undefined) {
    this.#adapter = adapter;
    this.#pairs = new Map(adapter?.pairs.map((pair) => [`${pair.module}.weight`, pair]));
    this.#dtype = dtype;
  }

  source({ entry, file }: FileTensor): TensorSource {
    const { name, shape } = entry;
    const from = floatDtypes.get(entry.dtype);
    if (from === undefined)
      throw new FileError({
        where: file.path,
        what: `tensor "${name}" does not hold floats`,
        expected: "F32, F16 or BF16",
        got: entry.dtype,
      });
    // RoPE's frequencies, which old checkpoints carry, stay as they are; a head that repeats the embedding changes with it.
    const dtype = name.endsWith("rotary_emb.inv_freq") ? from : (this.#dtype ?? from);
    const pair = this.#pairs.get(name);
    const cols = foldedCols(shape);
    const read = async (firstRow: number, rows: number): Promise<Float32Array | Uint16Array> => {
      const raw = (await file.read(name, firstRow * cols, rows * cols)) as Float32Array | Uint16Array;
      const data = pair === undefined && dtype === from ? raw : await rewrite(raw, firstRow, rows);
      this.#done += data.byteLength;
      this.onWritten(this.#done);
      return data;
    };
    const rewrite = async (base: Float32Array | Uint16Array, firstRow: number, rows: number): Promise<Float32Array | Uint16Array> => {
      const loaded = pair === undefined ? null : await this.#load(pair, cols);
      const rank = pair?.rank ?? 0;
      const { data, notFinite } = merge({
        ...{ base, baseDtype: from, dtype, rows, cols, rank, scale: pair?.scale ?? 0 },
        a: loaded?.a ?? new Float64Array(0),
        b: loaded?.b.subarray(firstRow * rank, (firstRow + rows) * rank) ?? new Float32Array(0),
      });
      if (notFinite < 0) return data;
      const before = toFloats(base.subarray(notFinite, notFinite + 1), from)[0]!;
      const at = shape.length < 2 ? `[${notFinite}]` : `[${firstRow + Math.floor(notFinite / cols)}, ${notFinite % cols}]`;
      throw notFiniteError(`${file.path} "${name}" ${at}`, before, dtype, pair);
    };
    return { name, shape, dtype, read };
  }

  async #load(pair: AdapterPair, cols: number): Promise<LoadedPair> {
    if (this.#current?.pair === pair) return this.#current;
    const names = pairNames(pair.module);
    const floats = async (name: string): Promise<Float32Array> => {
      const { file, entry } = this.#adapter!.byName.get(name)!;
      return toFloats((await file.read(entry.name)) as Float32Array | Uint16Array, floatDtypes.get(entry.dtype)!);
    };
    const a = packColumns(await floats(names.a), pair.rank, cols);
    this.#current = { pair, a, b: await floats(names.b) };
    return this.#current;
  }
}

function notFiniteError(where: string, before: number, dtype: FloatDtype, pair: AdapterPair | undefined): ZeroSearchError {
  if (!Number.isFinite(before)) {
    const hint = "the model is broken: its training diverged, or the file is damaged";
    return new ZeroSearchError({ where, what: "the weights are not finite", got: String(before), hint });
  }
  const [what, got] =
    pair === undefined
      ? [`a number is too large for ${dtype}`, String(before)]
      : [`with the adapter it is too large for ${dtype}, or the adapter is not finite`, `${before} before the adapter`];
  const expected = `at most ${dtype === "f16" ? "65504" : "3.39e38"} in size`;
  return new ZeroSearchError({ where, what, expected, got, hint: dtype === "f16" ? "write bf16 or f32" : undefined });
}
