/** What training a LoRA adapter asks of the device: nothing for the frozen weights, and no more memory than the backward reads. */
import { describe, expect, it } from "vitest";
import type { Storage } from "../../src/device/device.ts";
import { packBatch } from "../../src/nn/batch.ts";
import type { LinearName } from "../../src/nn/block.ts";
import { fromHuggingFace } from "../../src/nn/config.ts";
import { Decoder } from "../../src/nn/decoder.ts";
import { gatherRows } from "../../src/ops/gather-rows.ts";
import { logProb } from "../../src/ops/log-prob.ts";
import { policyLoss } from "../../src/ops/policy-loss.ts";
import { backward } from "../../src/tensor/backward.ts";
import { withScope } from "../../src/tensor/scope.ts";
import { withTape } from "../../src/tensor/tape.ts";
import { fromHost, full } from "../../src/tensor/tensor.ts";
import { ReferenceDevice } from "../reference/device.ts";
import { randomIds } from "../helpers/tiny-model.ts";
import { liveTensors } from "../helpers/live-tensors.ts";

const config = fromHuggingFace({
  architectures: ["Qwen3ForCausalLM"],
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  vocab_size: 31,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: true,
});
const { width: C, mlpWidth: F, heads: H, kvHeads: K, headDim: D, layers: L, vocabulary: V } = config;
const N = 20; // tokens of the batch
const M = 6; // those that the loss looks at
const r = 2;

interface Call {
  readonly kernel: string;
  readonly inputs: readonly (Storage | null)[];
  readonly outputs: readonly (Storage | null)[];
}

/** One forward, loss and backward; the bytes held in between, and every kernel call of the backward. */
function learn(targets: readonly LinearName[] | undefined, recompute = false): { decoder: Decoder; held: number; calls: readonly Call[] } {
  const device = new ReferenceDevice();
  const decoder = Decoder.initialise(config, device, 1);
  decoder.setTrainable(targets === undefined);
  if (targets !== undefined) decoder.addAdapter("policy", { rank: r, alpha: r, seed: 1, targets });
  const calls: Call[] = [];
  let held = 0;
  withScope(() => {
    const batch = packBatch(device, [randomIds(N, V, 1)]);
    const words = (values: readonly number[]) => fromHost(device, Uint32Array.from(values), [values.length]);
    const [rows, next] = [words([3, 5, 7, 9, 11, 13]), words(randomIds(M, V, 2))];
    const vectors = [0, 1, 1].map((value) => full(device, [M], value));
    const before = liveTensors(device).bytes;
    const { tape, value } = withTape(() =>
      withScope(() => {
        const hidden = decoder.forward(batch, { recompute, ...(targets === undefined ? {} : { adapter: "policy" }) });
        const scored = logProb(gatherRows(hidden, rows), decoder.headWeight, next);
        const [oldLogProb, advantage, weight] = vectors as [(typeof vectors)[0], (typeof vectors)[0], (typeof vectors)[0]];
        return policyLoss(
          { ...scored, oldLogProb, advantage, weight, referenceLogProb: null },
          { clipLow: 0.2, clipHigh: 0.2, klCoef: 0, entropyCoef: 0, scale: 1 },
        );
      }),
    );
    held = liveTensors(device).bytes - before;
    const run = device.run.bind(device);
    device.run = (kernel, dims, inputs, outputs) => {
      calls.push({ kernel, inputs, outputs });
      run(kernel, dims, inputs, outputs);
    };
    backward(tape, value);
  });
  return { decoder, held, calls };
}

const all: readonly LinearName[] = [
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.o_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "mlp.down_proj",
];
/** Floats that the end of the model holds: the last residual stream, its norm; the rows looked at; log-sum-exp and entropy; the loss. */
const end = (stats: number): number => N * C + N + M * C + 2 * M + 2 * M + stats;
const lossStats = 9;

describe("the backward of a LoRA adapter", () => {
  it("makes no gradient of a frozen weight: not of the head, the embedding, a matrix or a norm", () => {
    for (const recompute of [false, true]) {
      const { decoder, calls } = learn(all, recompute);
      const gradients = new Set([...decoder.adapterParameters("policy").values()].map(({ grad }) => grad!.storage));
      expect(gradients.size).toBe(2 * 7 * L);
      // [V, C] is the head's and the embedding's alone
      for (const { kernel, outputs } of calls) {
        expect(kernel).not.toBe("embedding_backward");
        for (const output of outputs) {
          expect(output?.rows).not.toBe(V);
          if (kernel === "rms_norm_backward") expect(outputs[1]).toBeNull();
        }
      }
      expect(calls.find(({ kernel }) => kernel === "log_prob_backward")!.outputs[1]).toBeNull();
      // Products whose result is as large as a weight: none but the adapter's own.
      const weights = new Set([...decoder.parameters().values()].filter(({ shape }) => shape.length > 1).map(({ shape }) => shape.join()));
      for (const { kernel, outputs } of calls)
        if (kernel === "matmul" && !gradients.has(outputs[0]!)) expect(weights).not.toContain([outputs[0]!.rows, outputs[0]!.cols].join());
      for (const parameter of decoder.parameters().values()) expect(parameter.grad).toBeNull();
    }
  });

  it("stops at the first block: nothing flows into the embedding", () => {
    const count = (targets: typeof all | undefined, name: string): number =>
      learn(targets).calls.filter(({ kernel }) => kernel === name).length;
    // Of a linear layer: through b, the gradients of a and of b, and of its input through a and through the weight. The first block's q, k
    // and v have nothing below them.
    expect(count(all, "matmul")).toBe(L * 7 * 5 - 3 * 2);
    // Of the two norms of a block, and those of its q and k: that of the first block's input has nothing below it.
    expect(count(all, "rms_norm_backward")).toBe(L * 4 + 1 - 1);
    expect(count(undefined, "rms_norm_backward")).toBe(L * 4 + 1);
  });
});

describe("what a forward holds for its backward", () => {
  /** Of a block, in floats: rope's, attention's and the activation's inputs, and those of the norms of heads. */
  const inside =
    N * (2 * H * D + 2 * K * D /* q, k before and after their norms and turns */ + K * D + H * D + H) + N * (H + K) + N * 2 * F;

  it("is what an adapter on all layers needs: their inputs and the narrow products, but no residual stream into the first block", () => {
    const block = inside + N * (C + 1) + N * (C /* into q, k, v */ + C /* into gate, up */ + F) /* into down */ + 7 * N * r;
    const residual = (L - 1) * N * (C + 1);
    expect(learn(all).held / 4).toBe(L * block + residual + end(lossStats));
  });

  it("is less for an adapter on q and v alone: the MLP's inputs are not needed again", () => {
    const block = inside + N * (C + 1) + N * C + 2 * N * r;
    const residual = (L - 1) * N * (C + 1);
    // k of the first block has nothing that learns below it: it is not recorded, and only attention holds it, turned.
    const spared = N * K * D + N * K;
    expect(learn(["self_attn.q_proj", "self_attn.v_proj"]).held / 4).toBe(L * block + residual + end(lossStats) - spared);
  });

  it("is what training all weights needs: every input of a layer once, and no output that nobody reads", () => {
    const block = inside + 2 * N * (C + 1) + N * (2 * C + F);
    expect(learn(undefined).held / 4).toBe(L * block + end(lossStats));
  });

  it("is each block's input alone when the rest is recomputed", () => {
    expect(learn(all, true).held / 4).toBe(L * N * C + end(lossStats));
  });
});
