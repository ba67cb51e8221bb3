/** LoRA adapters as PEFT's folders: adapter_config.json and adapter_model.safetensors, which PEFT and vLLM load. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { linearNames } from "../nn/block.ts";
import { parameterShapes, type DecoderConfig } from "../nn/config.ts";
import type { Decoder } from "../nn/decoder.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { FileError } from "../util/errors.ts";
import { ADAPTER_WEIGHTS, refuseForeign } from "./folder-files.ts";
import { exists, writeFolderAtomic } from "./atomic.ts";
import { compareTensors, fillTensors, tensorsOf, type FileTensor } from "./load-tensors.ts";
import { ADAPTER_CONFIG, adapterPairs, addedAs, readAdapterConfig, type AdapterConfig, type AdapterPair } from "./peft-config.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { saveTensors, type FloatDtype } from "./save-tensors.ts";

export interface SaveAdapterOptions {
  /** What the adapter belongs to, for whoever loads it: a Hub id, or a folder. */
  readonly baseModel: string;
  /** Commit, branch or tag of a Hub id; what loads the adapter takes its main branch without. */
  readonly revision?: string | undefined;
  /** f32 unless told. */
  readonly dtype?: FloatDtype;
}

/** The configurations that adapters were loaded with: what of them has no effect here goes back into the file. */
const loaded = new WeakMap<Decoder, Map<string, AdapterConfig>>();

/**
 * Adds the adapter in a folder to a decoder, as f32, under a name of the caller's. It may learn; `setAdapterTrainable` says otherwise.
 * @returns its configuration. `lora_dropout` is of PEFT's training and is not applied.
 * @throws FileError for a missing or malformed file, and for all tensors that do not fit the model, in one.
 * @throws ConfigError for features that are not supported, by name, and for a name that is taken. The decoder is then unchanged.
 */
export async function loadAdapter(decoder: Decoder, name: string, folder: string): Promise<AdapterConfig> {
  const { config, pairs, file, byName } = await openAdapter(folder, decoder.config);
  try {
    const parameters = decoder.addAdapter(name, addedAs(config, pairs));
    try {
      await fillTensors(file.path, { byName }, parameters);
    } catch (error) {
      decoder.removeAdapter(name);
      throw error;
    }
  } finally {
    await file.close();
  }
  const configs = loaded.get(decoder) ?? new Map<string, AdapterConfig>();
  loaded.set(decoder, configs.set(name, config));
  return config;
}

/**
 * Saves an adapter as a folder, all at once. What an adapter's file said besides, when it was loaded, is said again.
 * @throws FileError when it cannot be written, or the folder holds other files; ConfigError for an unknown name.
 * @throws ZeroSearchError when the adapter holds NaN or infinity, or a number too large for `dtype`.
 */
export async function saveAdapter(decoder: Decoder, name: string, folder: string, options: SaveAdapterOptions): Promise<void> {
  const parameters = decoder.adapterParameters(name);
  await refuseForeign(folder, (entry) => entry === ADAPTER_CONFIG || entry === ADAPTER_WEIGHTS, "an adapter");
  await writeFolderAtomic(folder, async (temporary) => {
    await saveTensors(join(temporary, ADAPTER_WEIGHTS), parameters, { dtype: options.dtype ?? "f32", finite: true });
    await writeFile(join(temporary, ADAPTER_CONFIG), configText(decoder, name, options));
  });
}

/** adapter_config.json with every field that PEFT 0.12 has, in its order; later versions take their defaults for the rest. */
function configText(decoder: Decoder, name: string, { baseModel, revision }: SaveAdapterOptions): string {
  const pairs = pairsOf(decoder, name);
  const before = loaded.get(decoder)?.get(name);
  const kept =
    before !== undefined && samePairs(pairs, adapterPairs(before, decoder.config)) ? before.fields : sizeFields(decoder, name, pairs);
  const fields: Record<string, unknown> = {
    alpha_pattern: {},
    auto_mapping: null,
    bias: "none",
    fan_in_fan_out: false,
    init_lora_weights: true,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_dropout: 0,
    megatron_config: null,
    megatron_core: "megatron.core",
    modules_to_save: null,
    rank_pattern: {},
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: false,
    ...kept,
    base_model_name_or_path: baseModel,
    inference_mode: true,
    peft_type: "LORA",
    revision: revision ?? null,
  };
  const sorted = Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
  return `${JSON.stringify(sorted, null, 2)}\n`;
}

/** The pairs that a decoder has of an adapter. */
function pairsOf(decoder: Decoder, name: string): AdapterPair[] {
  return decoder.blocks.flatMap((block, layer) =>
    linearNames.flatMap((target) => {
      const pair = block.linears.get(target)!.adapters.get(name);
      if (pair === undefined) return [];
      return [{ target, module: `model.layers.${layer}.${target}`, rank: pair.a.rows, scale: pair.scale }];
    }),
  );
}

function samePairs(a: readonly AdapterPair[], b: readonly AdapterPair[]): boolean {
  return a.length === b.length && a.every((one, i) => one.module === b[i]!.module && one.rank === b[i]!.rank && one.scale === b[i]!.scale);
}

/** The fields that say where the pairs are and of what size: by short names where all layers are alike, else by whole ones. */
function sizeFields(decoder: Decoder, name: string, pairs: readonly AdapterPair[]): Record<string, unknown> {
  const { rank, alpha } = decoder.adapterShape(name);
  const targets = linearNames.filter((target) => pairs.some((pair) => pair.target === target));
  const everywhere = pairs.length === targets.length * decoder.blocks.length;
  const others = pairs.filter((pair) => pair.rank !== rank || pair.scale !== alpha / rank);
  return {
    r: rank,
    lora_alpha: alpha,
    target_modules: everywhere ? targets.map((target) => target.split(".")[1]!).sort() : pairs.map(({ module }) => module).sort(),
    rank_pattern: Object.fromEntries(others.map((pair) => [pair.module, pair.rank])),
    alpha_pattern: Object.fromEntries(others.map((pair) => [pair.module, alphaOf(pair)])),
  };
}

/** The alpha that gives a scale, a whole number where one does. */
function alphaOf({ rank, scale }: AdapterPair): number {
  const whole = Math.round(scale * rank);
  return whole / rank === scale ? whole : scale * rank;
}

/** PEFT's names of the two matrices of a pair. */
export function pairNames(module: string): { readonly a: string; readonly b: string } {
  return { a: `base_model.model.${module}.lora_A.weight`, b: `base_model.model.${module}.lora_B.weight` };
}

/** An adapter's folder, open and checked against a model. Close its file. */
export interface OpenAdapter {
  readonly config: AdapterConfig;
  readonly pairs: readonly AdapterPair[];
  readonly file: SafetensorsFile;
  /** By `pairNames`: two for each pair, and no others. */
  readonly byName: ReadonlyMap<string, FileTensor>;
}

/**
 * Opens an adapter for a model of this configuration.
 * @throws FileError for a missing or malformed file, and for all tensors that are missing, unexpected or of another shape or type, in one.
 * @throws ConfigError for features that are not supported, and for an adapter that means no layer of this model.
 */
export async function openAdapter(folder: string, model: DecoderConfig): Promise<OpenAdapter> {
  const config = await readAdapterConfig(folder);
  const pairs = adapterPairs(config, model);
  const path = join(folder, ADAPTER_WEIGHTS);
  if (!(await exists(path))) throw await noWeights(folder);
  const file = await SafetensorsFile.open(path);
  try {
    const byName = plainNames(file);
    compareTensors(path, { byName }, wantedTensors(pairs, model), { hint: mismatch(config, model) });
    return { config, pairs, file, byName };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The tensors that the pairs ask for, by `pairNames`. */
function wantedTensors(pairs: readonly AdapterPair[], model: DecoderConfig): ReadonlyMap<string, Pick<Tensor, "shape" | "dtype">> {
  const shapes = new Map(parameterShapes(model).map(({ name, shape }) => [name, shape]));
  return new Map(
    pairs.flatMap(({ module, rank }) => {
      const [rows, cols] = shapes.get(`${module}.weight`)! as [number, number];
      const { a, b } = pairNames(module);
      return [
        [a, { shape: [rank, cols], dtype: "f32" }],
        [b, { shape: [rows, rank], dtype: "f32" }],
      ] as const;
    }),
  );
}

/** The tensors of a file without the adapter's own name, which a model in memory has inside them: `lora_A.default.weight`. */
function plainNames(file: SafetensorsFile): Map<string, FileTensor> {
  const byName = new Map<string, FileTensor>();
  for (const [name, tensor] of tensorsOf(file)) {
    const plain = name.replace(/\.(lora_[AB])\.[^.]+\.weight$/, ".$1.weight");
    if (byName.has(plain))
      throw new FileError({
        where: file.path,
        what: `holds more than one adapter: "${plain}" comes twice`,
        expected: "one adapter",
        got: `"${name}" besides`,
      });
    byName.set(plain, tensor);
  }
  return byName;
}

function mismatch({ baseModel, rank }: AdapterConfig, model: DecoderConfig): string {
  const { architecture, layers, width, mlpWidth } = model;
  return (
    `the adapter was made for ${baseModel === null ? "a model it does not name" : `"${baseModel}"`}, with rank ${rank}; ` +
    `this one is a ${architecture} of ${layers} layers, width ${width}, MLP width ${mlpWidth}`
  );
}

async function noWeights(folder: string): Promise<FileError> {
  const pickled = await exists(join(folder, "adapter_model.bin"));
  return new FileError({
    where: folder,
    what: pickled ? "the adapter's weights are a Python pickle, which can run code and is not read" : "there are no weights",
    expected: ADAPTER_WEIGHTS,
    got: pickled ? "adapter_model.bin" : undefined,
    hint: pickled
      ? `convert it once: python3 -c 'import torch; from safetensors.torch import save_file; save_file(torch.load("adapter_model.bin", map_location="cpu", weights_only=True), "${ADAPTER_WEIGHTS}", metadata={"format": "pt"})'`
      : undefined,
  });
}
