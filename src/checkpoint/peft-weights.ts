/** The tensors of a PEFT adapter: found, and compared with what its configuration and the model ask for. */
import { join } from "node:path";
import { parameterShapes, type DecoderConfig } from "../nn/config.ts";
import { FileError } from "../util/errors.ts";
import { exists } from "./atomic.ts";
import { ADAPTER_WEIGHTS } from "./folder-files.ts";
import { compareTensors, tensorsOf, type FileTensor } from "./load-tensors.ts";
import { readAdapterConfig, type AdapterConfig } from "./peft-config.ts";
import { adapterPairs, type AdapterPair } from "./peft-modules.ts";
import { SafetensorsFile } from "./safetensors.ts";

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
function wantedTensors(
  pairs: readonly AdapterPair[],
  model: DecoderConfig,
): Map<string, { readonly shape: readonly number[]; readonly dtype: "f32" }> {
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
