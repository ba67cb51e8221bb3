/** Ratios of whole sequences for the policy loss. Source: GSPO, Zheng et al. 2025, arXiv:2507.18071. */
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";
import { expectShape, expectVector } from "./check.ts";

/**
 * What `policyLoss` takes as `oldLogProb` where the ratio is that of the sequence. logProb, oldLogProb [N], offsets [B + 1] u32 -> [N]:
 * logProb[n] - mean of (logProb - oldLogProb) over n's sequence, tokens offsets[b] .. offsets[b+1] - 1, so that exp(logProb - this) is the
 * geometric mean of the sequence's ratios at each of its tokens. Not differentiable, which makes the loss the paper's token form,
 * sg(s) pi / sg(pi): its gradient goes through each token's own logProb alone. Where a sequence's log-probabilities are all as they were,
 * the result has the bits of logProb. Sequences may be empty; tokens of none are undefined.
 * @throws ShapeError
 */
export function sequenceOldLogProb(logProb: Tensor, oldLogProb: Tensor, offsets: Tensor): Tensor {
  expectVector("sequence_ratio", "logProb", logProb, "f32");
  expectShape("sequence_ratio", "oldLogProb", oldLogProb, logProb.shape, "f32");
  expectVector("sequence_ratio", "offsets", offsets, "u32");
  if (offsets.size < 2)
    throw new ShapeError({
      where: "sequence_ratio",
      what: "offsets name no sequence",
      expected: "[B + 1], B at least 1",
      got: `[${offsets.size}]`,
    });
  const old = empty(logProb.device, logProb.shape, { label: "old log_prob by sequence" });
  runKernel("sequence_ratio", {}, [logProb, oldLogProb, offsets], [old]);
  return old;
}
