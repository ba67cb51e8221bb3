/**
 * How the quickstart's models are made: shapes, data and phases, in one place. LOG.md tells what was tried.
 */
import { defaultSpoil, skillOptions, type PolicyOptions } from "../../data/quickstart/policy-options.ts";
import { simulatorOptions, type SimulatorOptions } from "../../data/quickstart/scripted-simulator.ts";

/** One phase of fine-tuning: AdamW, linear warm-up, cosine decay to `finalShare` of the peak. */
export interface Phase {
  readonly name: string;
  /** Which weights it starts from: none (drawn from the seed), or those another phase ended with. */
  readonly from: string | null;
  /** Tokens that go through the model; batches are whole examples. */
  readonly tokens: number;
  readonly learningRate: number;
  readonly warmupUpdates: number;
  readonly finalShare: number;
  /** Which stream of examples: its seed is named by the phase. */
  readonly data:
    | {
        readonly kind: "policy";
        readonly options: PolicyOptions;
        /** Share of the phase, from its start, with one-hop questions only. */
        readonly singleHopFirst: number;
      }
    | { readonly kind: "simulator"; readonly options: SimulatorOptions };
}

export interface QuickstartRecipe {
  readonly seed: number;
  readonly vocabulary: number;
  /** Hugging Face's config.json, but for the vocabulary and token ids. */
  readonly model: Readonly<Record<string, unknown>>;
  readonly tokensPerUpdate: number;
  readonly microBatchTokens: number;
  readonly optimizer: {
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly weightDecay: number;
    readonly maxGradNorm: number;
  };
  readonly phases: readonly Phase[];
  /** The phases whose weights are the quickstart's policy and simulator. */
  readonly policy: string;
  readonly simulator: string;
  /** Examples longer than this are left out. */
  readonly maxExampleTokens: number;
  /** At which the simulator is measured and used. */
  readonly simulatorTemperature: number;
}

export const recipe: QuickstartRecipe = {
  seed: 7,
  vocabulary: 1024,
  model: {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 128,
    intermediate_size: 352,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 1024,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: "silu",
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
  },
  tokensPerUpdate: 4096,
  microBatchTokens: 4096,
  optimizer: { beta1: 0.9, beta2: 0.98, eps: 1e-8, weightDecay: 0.05, maxGradNorm: 1 },
  phases: [
    {
      name: "policy-skill",
      from: null,
      tokens: 9e6,
      learningRate: 3e-3,
      warmupUpdates: 100,
      finalShare: 0.05,
      data: { kind: "policy", options: skillOptions, singleHopFirst: 0.2 },
    },
    {
      // Noise about the same relation of other countries is the hardest to tell from an answer.
      name: "policy-doubt",
      from: "policy-skill",
      tokens: 2e6,
      learningRate: 1.5e-3,
      warmupUpdates: 20,
      finalShare: 0.05,
      data: {
        kind: "policy",
        options: { ...skillOptions, noiseShare: 0.45, noiseKinds: { foreign: 0.15, sameRelation: 0.6, sameCountry: 0.1, mixed: 0.15 } },
        singleHopFirst: 0,
      },
    },
    {
      name: "policy-habits",
      from: "policy-doubt",
      tokens: 0.4e6,
      learningRate: 8e-4,
      warmupUpdates: 10,
      finalShare: 0.05,
      data: { kind: "policy", options: { ...skillOptions, spoil: defaultSpoil }, singleHopFirst: 0 },
    },
    {
      name: "simulator",
      from: "policy-skill",
      tokens: 11e6,
      learningRate: 2e-3,
      warmupUpdates: 50,
      finalShare: 0.05,
      data: { kind: "simulator", options: simulatorOptions },
    },
    {
      name: "simulator-polish",
      from: "simulator",
      tokens: 3e6,
      learningRate: 1e-3,
      warmupUpdates: 20,
      finalShare: 0.05,
      data: {
        kind: "simulator",
        options: { ...simulatorOptions, kinds: { last: 0.62, bridge: 0.16, sloppy: 0.22 }, drill: 0.06, randomNoise: 0.9 },
      },
    },
    {
      // What is left wrong by now is copying the answer; bridges and sloppy queries have room to spare.
      name: "simulator-copy",
      from: "simulator-polish",
      tokens: 2.5e6,
      learningRate: 1e-3,
      warmupUpdates: 20,
      finalShare: 0.05,
      data: {
        kind: "simulator",
        options: { ...simulatorOptions, kinds: { last: 0.8, bridge: 0.1, sloppy: 0.1 }, usefulShare: 0.75, drill: 0.05, randomNoise: 0.9 },
      },
    },
  ],
  policy: "policy-habits",
  simulator: "simulator-copy",
  maxExampleTokens: 1000,
  simulatorTemperature: 0.2,
};
