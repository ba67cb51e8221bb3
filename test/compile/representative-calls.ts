/**
 * Calls of every kernel of the table, over the dtypes, shapes and row counts that hosts tell apart: models of the sizes that are trained
 * here, tiny and odd ones, and each kernel by itself where dtypes may be mixed. A new row of the table must be called here.
 */
import type { Device, Dtype, Storage } from "../../src/device/device.ts";
import { kernels, type KernelName } from "../../src/device/kernels.ts";
import { fromHuggingFace, type DecoderConfig } from "../../src/nn/config.ts";
import { programOf, type ModelCase } from "../helpers/model-program.ts";
import { tinyConfigs } from "../helpers/tiny-model.ts";

export const floatDtypes = ["f32", "f16", "bf16"] as const satisfies readonly Dtype[];

const layers = { num_hidden_layers: 2, max_position_embeddings: 32768 };
const qwen2 = (hidden: number, mlp: number, heads: number, kvHeads: number, vocabulary = 151936): DecoderConfig =>
  fromHuggingFace({
    ...layers,
    architectures: ["Qwen2ForCausalLM"],
    hidden_size: hidden,
    intermediate_size: mlp,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocabulary,
    tie_word_embeddings: true,
  });
const qwen3 = (hidden: number, mlp: number, heads: number, kvHeads: number, headDim: number, vocabulary: number): DecoderConfig =>
  fromHuggingFace({
    ...layers,
    architectures: ["Qwen3ForCausalLM"],
    hidden_size: hidden,
    intermediate_size: mlp,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    vocab_size: vocabulary,
    tie_word_embeddings: true,
  });

/** The models of the readme's tables, and small ones whose sizes are multiples of nothing. */
export const models: Readonly<Record<string, ModelCase>> = {
  "Qwen2.5 0.5B, trained": { config: qwen2(896, 4864, 14, 2), weights: "f32", trains: "weights" },
  "Qwen2.5 1.5B, trained with adapters": {
    config: qwen2(1536, 8960, 12, 2),
    weights: "bf16",
    trains: "adapters",
    loraRank: 16,
    settings: ["model.cacheDtype=bf16"],
  },
  "Qwen2.5 3B, trained": {
    config: qwen2(2048, 11008, 16, 2),
    weights: "f32",
    trains: "weights",
    settings: ["model.cacheDtype=f16", "optimizer.moments=8bit"],
  },
  "Qwen2.5 7B, frozen": {
    config: qwen2(3584, 18944, 28, 4, 152064),
    weights: "f16",
    trains: "nothing",
    settings: ["model.cacheDtype=f16"],
  },
  "Qwen3 0.6B, trained": {
    config: qwen3(1024, 3072, 16, 8, 128, 151936),
    weights: "f32",
    trains: "weights",
    settings: ["model.cacheDtype=f16", "optimizer.moments=bf16"],
  },
  "a tiny Llama with all biases": { config: tinyConfigs.llama, weights: "f32", trains: "weights" },
  "its adapters": { config: tinyConfigs.llama, weights: "f32", trains: "adapters", loraRank: 3 },
  "the quickstart's size": {
    config: qwen3(64, 176, 4, 4, 16, 1031),
    weights: "f32",
    trains: "weights",
    settings: ["model.cacheDtype=bf16"],
  },
};

/** Widths of heads: of the tests, and of models. */
const headDims = [4, 8, 12, 16, 20, 32, 48, 64, 80, 96, 128];
const productRows = [1, 2, 8, 17, 64, 100, 512, 4096];
const productWidths = [1, 3, 8, 65, 128, 896, 3584, 152064];
/** All ways to store a, b and bias that callers have, and some that they may. */
const operands: readonly (readonly [Dtype, Dtype, Dtype | null])[] = [
  ...floatDtypes.flatMap((b) => [["f32", b, null] as const, ["f32", b, b] as const]),
  ...floatDtypes.map((a) => [a, a, null] as const),
  ["f16", "f32", "f32"],
  ["bf16", "f16", null],
];

function products(device: Device, mostColumns: number): void {
  for (const [aType, bType, biasType] of operands)
    for (const transA of [0, 1])
      for (const transB of [0, 1])
        for (const M of productRows)
          for (const N of productWidths.filter((n) => n <= mostColumns && (n < 4096 || (transA === 0 && transB === 1))))
            for (const K of N > 4096 ? [896] : [1, 100, 896, 4864].filter((k) => k <= mostColumns)) {
              const usage = transB === 1 ? "parameter" : "activation";
              const a = device.allocate(transA === 1 ? K : M, transA === 1 ? M : K, aType, "activation", "a");
              const b = device.allocate(transB === 1 ? N : K, transB === 1 ? K : N, bType, usage, "b");
              const bias = biasType === null ? null : device.allocate(1, N, biasType, "parameter", "bias");
              const c = device.allocate(M, N, "f32", "activation", "c");
              for (const accumulate of [0, 1]) device.run("matmul", { M, N, K, transA, transB, accumulate }, [a, b, bias], [c]);
            }
}

/** Two and three linear layers of one input, as a block has them: some adapters compute them together. */
function layersOfOneInput(device: Device, mostColumns: number): void {
  for (const M of productRows)
    for (const widths of [
      [896, 128, 128],
      [4864, 4864],
      [2048, 256, 256],
      [16, 16],
    ])
      for (const K of [100, 896, 2048].filter((k) => k <= mostColumns))
        for (const biases of [true, false]) {
          const a = device.allocate(M, K, "f32", "activation", "a");
          for (const N of widths) {
            const b = device.allocate(N, K, "f32", "parameter", "b");
            const bias = biases ? device.allocate(1, N, "f32", "parameter", "bias") : null;
            const c = device.allocate(M, N, "f32", "activation", "c");
            device.run("matmul", { M, N, K, transA: 0, transB: 1, accumulate: 0 }, [a, b, bias], [c]);
          }
        }
}

function attentions(device: Device): void {
  const make = (rows: number, cols: number, dtype: Dtype = "f32"): Storage => device.allocate(rows, cols, dtype, "activation", "x");
  for (const D of headDims)
    for (const [H, K] of [
      [1, 1],
      [6, 2],
      [4, 4],
      [14, 2],
      [16, 1],
    ] as const) {
      const dims = { heads: H, kvHeads: K, scale: 1 };
      for (const N of [1, 5, 64, 300]) {
        const [q, k, offsets, lse] = [make(N, H * D), make(N, K * D), make(1, 3, "u32"), make(N, H)];
        device.run("attention", dims, [q, k, k, offsets], [make(N, H * D), lse]);
        device.run("attention_backward", dims, [q, k, k, offsets, q, lse, q], [make(N, H * D), make(N, K * D), make(N, K * D)]);
        for (const dtype of floatDtypes) {
          const caches = [make(5, K * D * 64, dtype), make(5, K * D * 64, dtype)];
          for (const B of [1, N]) {
            const places = [make(1, N, "u32"), make(1, B + 1, "u32"), make(B, 5, "u32")];
            device.run("kv_write", { kvHeads: K }, [k, k, ...places], caches);
            device.run("attention_paged", dims, [q, ...places, ...caches], [make(N, H * D)]);
          }
          device.run("kv_copy", {}, [make(3, 2, "u32")], caches);
        }
      }
      for (const inverse of [0, 1])
        device.run("rope", { heads: H, inverse }, [make(5, H * D), make(1, 5, "u32"), make(9, D)], [make(5, H * D)]);
    }
}

/** What is left: kernels whose storages may have any dtype, in sizes that are multiples of nothing. */
function others(device: Device): void {
  const make = (rows: number, cols: number, dtype: Dtype = "f32"): Storage => device.allocate(rows, cols, dtype, "activation", "x");
  for (const [N, C] of [
    [1, 1],
    [5, 7],
    [65, 33],
    [300, 896],
  ] as const) {
    const x = make(N, C);
    const ids = make(1, N, "u32");
    device.run("fill", { value: 1 }, [], [make(N, C)]);
    for (const from of floatDtypes) {
      for (const to of floatDtypes) device.run("copy", { fromRow: 0, toRow: 0, rows: N }, [make(N, C, from)], [make(N, C, to)]);
      device.run("accumulate", { scale: 1 }, [make(N, C, from)], [make(N, C)]);
      device.run("embedding", {}, [ids, make(50, C, from)], [x]);
      const [hidden, weight] = [make(N, C), make(700, C, from)];
      const vectors = [make(1, N), make(1, N), make(1, N)];
      device.run("log_prob", { temperature: 0.7 }, [hidden, weight, ids], vectors);
      for (const dEntropy of [null, make(1, N)])
        for (const dweight of [null, make(700, C)])
          device.run(
            "log_prob_backward",
            { temperature: 0.7 },
            [hidden, weight, ids, make(1, N), make(1, N), make(1, N), dEntropy],
            [make(N, C), dweight],
          );
      for (const groups of new Set([1, C % 4 === 0 ? 4 : 1, C % 7 === 0 ? 7 : 1, C % 3 === 0 ? 3 : 1])) {
        const weights = make(1, C / groups, from);
        device.run("rms_norm", { groups, eps: 1e-6 }, [x, weights], [make(N, C), make(N, groups)]);
        for (const dweight of [null, make(1, C / groups)])
          device.run("rms_norm_backward", { groups }, [x, weights, make(N, groups), make(N, C)], [make(N, C), dweight]);
      }
    }
    for (const bits of [16, 17]) device.run("round", { bits }, [x], [make(N, C)]);
    device.run("add", {}, [x, make(N, C)], [make(N, C)]);
    device.run("column_sum", {}, [x], [make(1, C)]);
    device.run("embedding_backward", {}, [ids, x], [make(50, C)]);
    device.run("swiglu", {}, [x, x], [make(N, C)]);
    device.run("swiglu_backward", {}, [x, x, x], [make(N, C), make(N, C)]);
    device.run("gather_rows", {}, [make(9, C), ids], [make(N, C)]);
    device.run("scatter_rows", {}, [x, ids], [make(9, C)]);
    device.run("sum_squares", { slot: 1 }, [x], [make(1, 3)]);
    device.run("clip_scale", { count: 3, maxNorm: 1, gradScale: 1 }, [make(1, 3)], [make(1, 2)]);
    const settings = { lr: 1, beta1: 0.9, beta2: 0.9, eps: 1e-8, weightDecay: 0.1, correction1: 0.1, correction2: 0.1 };
    device.run("adamw", settings, [x, make(1, 2)], [make(N, C), make(N, C), make(N, C)]);
    const random = { ...settings, key0: 1, key1: 2 };
    device.run("adamw_bf16", random, [x, make(1, 2)], [make(N, C), make(N, C, "bf16"), make(N, C, "bf16")]);
    const codes = (): Storage => make(N, Math.ceil(C / 4), "u32");
    const outputs = [make(N, C), codes(), codes(), make(N, 2 * Math.ceil(C / 256))];
    device.run("adamw_8bit", random, [x, make(1, 2), make(3, 256)], outputs);
    const vector = (): Storage => make(1, N);
    const policy = { clipLow: 0.2, clipHigh: 0.2, klCoef: 0.1, entropyCoef: 0.1, scale: 1, dualClip: 0, form: 0, kl: 3 };
    for (const reference of [null, vector()])
      device.run("policy_loss", policy, [vector(), vector(), reference, vector(), vector(), vector()], [vector(), vector(), make(1, 9)]);
    device.run("sequence_ratio", {}, [vector(), vector(), make(1, 3, "u32")], [vector()]);
    device.run("value_loss", { clip: 0.2, scale: 1 }, [make(N, 1), vector(), vector(), vector()], [make(N, 1), make(1, 3)]);
    device.run("weighted_nll", { scale: 1 }, [vector(), vector()], [vector(), make(1, 2)]);
    const words = (): Storage => make(1, N, "u32");
    device.run("sample", {}, [make(N, C), make(N, 4), make(N, 5, "u32"), words()], [words(), vector()]);
    const state = [words(), words(), words(), words(), words(), make(2, N, "u32"), make(2, N)];
    device.run("advance", { step: 0 }, [words(), vector(), make(3, C, "u32"), make(1, 3, "u32")], state);
  }
}

/**
 * Runs everything on `device`, which computes nothing, and returns the kernels that were called. Matrices have up to `mostColumns` columns,
 * and models that are wider are left out.
 */
export async function representativeCalls(device: Device, mostColumns = Infinity): Promise<ReadonlySet<KernelName>> {
  const called = new Set<KernelName>();
  const listening: Device = new Proxy(device, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        if (name === "run") called.add(args[0] as KernelName);
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
  for (const model of Object.values(models)) if (model.config.width <= mostColumns) await programOf(model)(listening);
  products(listening, mostColumns);
  layersOfOneInput(listening, mostColumns);
  attentions(listening);
  others(listening);
  return called;
}

export const kernelNames = Object.keys(kernels) as KernelName[];
