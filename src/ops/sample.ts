/** Draws one id per row of logits, on the device. */
import { empty, runKernel, type Tensor } from "../tensor/tensor.ts";
import { ShapeError } from "../util/errors.ts";
import { expectMatrix, expectShape } from "./check.ts";

/** What the kernels' scratch memory holds. */
const mostLogits = 500_000;

export interface Sampled {
  /** [R] u32 */
  readonly ids: Tensor;
  /** [R] f32: log softmax(logits / temperature)[id] over all of V, temperature 1 where greedy. */
  readonly logProb: Tensor;
}

/**
 * logits [R, V] f32, settings [R, 4] f32 (temperature, 0 = greedy; topK, 0 = off; topP, 1 = off; unused), keys [R, 5] u32 (Philox
 * key, then three counter words; the fourth is the position), positions [R] u32. What is drawn depends on the row's own values
 * only. Rows marked inactive (position 0xffffffff) are left alone: undefined unless `into` held something.
 * @throws ShapeError
 */
export function sample(logits: Tensor, settings: Tensor, keys: Tensor, positions: Tensor, into?: Sampled): Sampled {
  expectMatrix("sample", "logits", logits);
  if (logits.cols > mostLogits)
    throw new ShapeError({
      where: "sample",
      what: "the vocabulary is too large",
      expected: `at most ${mostLogits}`,
      got: String(logits.cols),
    });
  const R = logits.rows;
  expectShape("sample", "settings", settings, [R, 4]);
  expectShape("sample", "keys", keys, [R, 5], "u32");
  expectShape("sample", "positions", positions, [R], "u32");
  const device = logits.device;
  const result = into ?? {
    ids: empty(device, [R], { dtype: "u32", label: "sampled ids" }),
    logProb: empty(device, [R], { label: "sampled log_prob" }),
  };
  expectShape("sample", "ids", result.ids, [R]);
  expectShape("sample", "logProb", result.logProb, [R]);
  runKernel("sample", {}, [logits, settings, keys, positions], [result.ids, result.logProb]);
  return result;
}
