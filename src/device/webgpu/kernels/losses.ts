/** Losses over vectors of tokens: the policy loss, that of values and the weighted negative log-likelihood. Each sums chunks first, then the chunks. */
import type { KernelDims } from "../../kernels.ts";
import { fold, type KernelHost } from "../kernel.ts";
import { zero } from "./elementwise.ts";

/** Tokens of one workgroup, and sums it writes: CHUNK and SLOTS of the WGSL files. */
const chunkTokens = 256;
const policySlots = 10;
const valueSlots = 3;
const pairBytes = 8;

export const policyLoss: KernelHost = (context, { dims, inputs, outputs: [dLogProb, dEntropy, stats] }) => {
  const [logProb, oldLogProb, reference, entropy, advantage, weight] = inputs;
  const tokens = logProb!.cols;
  const chunks = Math.ceil(tokens / chunkTokens);
  const { clipLow, clipHigh, klCoef, entropyCoef, scale, dualClip, form, kl } = dims as KernelDims<"policy_loss">;
  const sums = context.scratch(Math.max(1, chunks) * policySlots * pairBytes);
  const grid = fold(chunks);
  context.dispatch({
    kernel: "policy_loss",
    constants: { REFERENCE: reference !== null, FORM: form, KL: kl },
    buffers: [...[logProb, oldLogProb, reference ?? oldLogProb, advantage, weight, dLogProb].map((one) => one!.buffers[0]!), sums],
    uints: [tokens, zero],
    floats: [1 - clipLow, 1 + clipHigh, klCoef, scale, dualClip],
    grid,
  });
  context.dispatch({
    kernel: "policy_loss_entropy",
    buffers: [entropy!.buffers[0]!, weight!.buffers[0]!, dEntropy!.buffers[0]!, sums],
    uints: [tokens, zero],
    floats: [-scale * entropyCoef],
    grid,
  });
  context.dispatch({
    kernel: "policy_loss_stats",
    buffers: [sums, stats!.buffers[0]!],
    uints: [chunks, zero],
    floats: [scale, entropyCoef],
    grid: [1, 1, 1],
  });
};

export const valueLoss: KernelHost = (context, { dims, inputs, outputs: [dValue, stats] }) => {
  const [value, oldValue, returns, weight] = inputs;
  const tokens = value!.rows;
  const chunks = Math.ceil(tokens / chunkTokens);
  const { clip, scale } = dims as KernelDims<"value_loss">;
  const sums = context.scratch(Math.max(1, chunks) * valueSlots * pairBytes);
  const vectors = [oldValue, returns, weight].map((one) => one!.buffers[0]!);
  context.dispatch({
    kernel: "value_loss",
    // values are rows, which may lie in several shards
    buffers: [context.whole(value!, "read"), ...vectors, context.whole(dValue!, "write"), sums],
    uints: [tokens, zero, value!.stride, dValue!.stride],
    floats: [clip, scale],
    grid: fold(chunks),
  });
  context.dispatch({
    kernel: "value_loss_stats",
    buffers: [sums, stats!.buffers[0]!],
    uints: [chunks, zero],
    floats: [scale],
    grid: [1, 1, 1],
  });
};

export const weightedNll: KernelHost = (context, { dims, inputs: [logProb, weights], outputs: [dLogProb, stats] }) => {
  const tokens = logProb!.cols;
  const chunks = Math.ceil(tokens / chunkTokens);
  const scale = dims["scale"]!;
  const sums = context.scratch(Math.max(1, chunks) * 2 * pairBytes);
  context.dispatch({
    kernel: "weighted_nll",
    buffers: [logProb!.buffers[0]!, weights!.buffers[0]!, dLogProb!.buffers[0]!, sums],
    uints: [tokens, zero],
    floats: [scale],
    grid: fold(chunks),
  });
  context.dispatch({
    kernel: "weighted_nll_stats",
    buffers: [sums, stats!.buffers[0]!],
    uints: [chunks, zero],
    floats: [scale],
    grid: [1, 1, 1],
  });
};
