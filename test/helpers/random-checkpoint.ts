/** Model folders of real sizes with random weights, written piece by piece: nobody has to download what only its shape matters of. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeSafetensors, type TensorSource } from "../../src/checkpoint/safetensors-write.ts";
import { fromHuggingFace, parameterShapes, type ParameterShape } from "../../src/nn/config.ts";
import { foldedCols } from "../../src/tensor/shape.ts";
import { toBf16 } from "../../src/tensor/dtype.ts";

/** config.json of HuggingFaceTB/SmolLM2-135M: 134,515,008 parameters, tied. */
export const smol135M: Readonly<Record<string, unknown>> = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  attention_dropout: 0,
  bos_token_id: 0,
  eos_token_id: 0,
  hidden_act: "silu",
  hidden_size: 576,
  initializer_range: 0.041666666666666664,
  intermediate_size: 1536,
  max_position_embeddings: 8192,
  model_type: "llama",
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  rope_theta: 100000,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  use_cache: true,
  vocab_size: 49152,
};

/** config.json of Qwen/Qwen2.5-0.5B: 494,032,768 parameters, tied, biases on q, k and v. */
export const qwen05B: Readonly<Record<string, unknown>> = {
  architectures: ["Qwen2ForCausalLM"],
  attention_dropout: 0,
  bos_token_id: 151643,
  eos_token_id: 151643,
  hidden_act: "silu",
  hidden_size: 896,
  initializer_range: 0.02,
  intermediate_size: 4864,
  max_position_embeddings: 32768,
  max_window_layers: 24,
  model_type: "qwen2",
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  sliding_window: 32768,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  use_sliding_window: false,
  vocab_size: 151936,
};

/**
 * Writes config.json and model.safetensors in bf16 (270 MB for 135 M parameters): matrices with values around 0.03 and no two rows
 * alike, norms around 1, biases small. The same for the same arguments.
 */
export async function writeRandomCheckpoint(folder: string, config: Readonly<Record<string, unknown>>, seed = 1): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
  const sources = parameterShapes(fromHuggingFace(config)).map(({ name, shape, kind }, index): TensorSource => {
    const values = table(kind);
    // xorshift32; its state goes through the rows in order, as the writer asks for them
    let state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)) | 1;
    const cols = foldedCols(shape);
    return {
      name,
      shape,
      dtype: "bf16",
      read: (_, rows) => {
        const data = new Uint16Array(rows * cols);
        for (let i = 0; i < data.length; i++) {
          state ^= state << 13;
          state ^= state >>> 17;
          state ^= state << 5;
          data[i] = values[state & 4095]!;
        }
        return Promise.resolve(data);
      },
    };
  });
  await writeSafetensors(join(folder, "model.safetensors"), sources);
}

/** 4096 values in bf16 to draw from. */
function table(kind: ParameterShape["kind"]): Uint16Array {
  const [middle, width] = kind === "norm" ? [1, 0.2] : kind === "bias" ? [0, 0.1] : [0, 0.05];
  return Uint16Array.from({ length: 4096 }, (_, i) => toBf16(middle + width * ((2 * i + 1) / 4096 - 1)));
}
