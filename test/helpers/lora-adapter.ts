/** Folders of LoRA adapters as PEFT writes them, made by hand: names, fields and layout are PEFT's. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeSafetensors } from "../../src/checkpoint/safetensors-write.ts";
import type { FloatDtype } from "../../src/checkpoint/save-tensors.ts";
import { parameterShapes, type DecoderConfig } from "../../src/nn/config.ts";
import { toElements } from "../../src/tensor/dtype.ts";
import { randomValues } from "./check-op.ts";

/** What `LoraConfig(r=4, lora_alpha=8, target_modules=[...], lora_dropout=0.05).save_pretrained()` of PEFT 0.17 writes. */
export const peftFields: Readonly<Record<string, unknown>> = {
  alpha_pattern: {},
  auto_mapping: null,
  base_model_name_or_path: "Qwen/Qwen2.5-0.5B",
  bias: "none",
  corda_config: null,
  eva_config: null,
  exclude_modules: null,
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  loftq_config: {},
  lora_alpha: 8,
  lora_bias: false,
  lora_dropout: 0.05,
  megatron_config: null,
  megatron_core: "megatron.core",
  modules_to_save: null,
  peft_type: "LORA",
  qalora_group_size: 16,
  r: 4,
  rank_pattern: {},
  revision: null,
  target_modules: ["v_proj", "q_proj", "gate_proj", "k_proj", "o_proj", "up_proj", "down_proj"],
  target_parameters: null,
  task_type: "CAUSAL_LM",
  trainable_token_indices: null,
  use_dora: false,
  use_qalora: false,
  use_rslora: false,
};

/** Tensors of an adapter by PEFT's names. */
export type AdapterTensors = Map<string, { readonly shape: readonly [number, number]; readonly values: Float32Array }>;

/** Random pairs for every linear layer of the blocks that `rankOf` gives a rank, around 1 / sqrt(in) and 0.1. */
export function randomPairs(config: DecoderConfig, rankOf: (module: string) => number | null, seed = 1): AdapterTensors {
  const tensors: AdapterTensors = new Map();
  for (const { name, shape } of parameterShapes(config)) {
    if (!/_proj\.weight$/.test(name)) continue;
    const module = name.replace(/\.weight$/, "");
    const rank = rankOf(module);
    if (rank === null) continue;
    const [out, into] = shape as [number, number];
    const values = (count: number, scale: number): Float32Array => randomValues(count, seed + tensors.size).map((x) => x * scale);
    tensors.set(`base_model.model.${module}.lora_A.weight`, { shape: [rank, into], values: values(rank * into, 1 / Math.sqrt(into)) });
    tensors.set(`base_model.model.${module}.lora_B.weight`, { shape: [out, rank], values: values(out * rank, 0.1) });
  }
  return tensors;
}

/** Writes adapter_config.json with these fields over `peftFields`, and adapter_model.safetensors. */
export async function writeAdapter(
  folder: string,
  tensors: AdapterTensors,
  fields: Readonly<Record<string, unknown>> = {},
  dtype: FloatDtype = "f32",
): Promise<string> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "adapter_config.json"), JSON.stringify({ ...peftFields, ...fields }, null, 2));
  await writeSafetensors(
    join(folder, "adapter_model.safetensors"),
    [...tensors].map(([name, { shape, values }]) => ({
      name,
      shape,
      dtype,
      read: (row: number, rows: number) => Promise.resolve(toElements(values.subarray(row * shape[1], (row + rows) * shape[1]), dtype)),
    })),
  );
  return folder;
}
