/** The host side of every kernel of the table. */
import type { KernelName } from "../../kernels.ts";
import type { KernelHost } from "../kernel.ts";
import { advance } from "./advance.ts";
import { attention, attentionBackward, attentionPaged } from "./attention.ts";
import { columnSum } from "./column-sum.ts";
import { accumulate, add, copy, fill, round } from "./elementwise.ts";
import { embedding, embeddingBackward } from "./embedding.ts";
import { kvCopy, kvWrite } from "./kv-cache.ts";
import { logProb, logProbBackward } from "./log-prob.ts";
import { policyLoss, valueLoss, weightedNll } from "./losses.ts";
import { matmul } from "./matmul.ts";
import { adamw, adamw8bit, adamwBf16, clipScale, sumSquares } from "./optimizer.ts";
import { rmsNorm, rmsNormBackward } from "./rms-norm.ts";
import { rope } from "./rope.ts";
import { gatherRows, scatterRows } from "./rows.ts";
import { sample } from "./sample.ts";
import { sequenceRatio } from "./sequence-ratio.ts";
import { swiglu, swigluBackward } from "./swiglu.ts";

export const kernelHosts: Readonly<Record<KernelName, KernelHost>> = {
  fill,
  copy,
  round,
  add,
  accumulate,
  matmul,
  column_sum: columnSum,
  embedding,
  embedding_backward: embeddingBackward,
  rms_norm: rmsNorm,
  rms_norm_backward: rmsNormBackward,
  rope,
  attention,
  attention_backward: attentionBackward,
  kv_write: kvWrite,
  kv_copy: kvCopy,
  attention_paged: attentionPaged,
  swiglu,
  swiglu_backward: swigluBackward,
  gather_rows: gatherRows,
  scatter_rows: scatterRows,
  log_prob: logProb,
  log_prob_backward: logProbBackward,
  sequence_ratio: sequenceRatio,
  policy_loss: policyLoss,
  value_loss: valueLoss,
  weighted_nll: weightedNll,
  sum_squares: sumSquares,
  clip_scale: clipScale,
  adamw,
  adamw_bf16: adamwBf16,
  adamw_8bit: adamw8bit,
  sample,
  advance,
};
