// sequence_ratio: y[n] = logProb[n] - m, m the mean of logProb - old over n's sequence: e^(logProb - y) = e^m, at each token the geometric mean of
//   its sequence's ratios
//
// Source    GSPO: Zheng et al. 2025, arXiv:2507.18071
// Shapes    logProb, old, y [1, N]   offsets u32 [1, B+1]: tokens offsets[b] .. offsets[b+1] - 1 are sequence b
// Items     a sequence, from its first token to its last: what it gets depends on its own tokens only
// Numerics  m in f64; y is rounded once, so logProb - y gives m back to half an ulp of y. Differences that are all 0 give y the bits of logProb
// Limits    empty sequences are passed over; tokens of no sequence are not written. NaN stays in its sequence
import { tensor, colsOf, rowPtr } from "./lib/call";

export function sequence_ratio_items(args: usize, phase: i32): i32 { return phase == 0 ? colsOf(tensor(args, 0, 2)) - 1 : -1; }

export function sequence_ratio_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const logProb = rowPtr(tensor(args, 0, 0), 0), old = rowPtr(tensor(args, 0, 1), 0), y = rowPtr(tensor(args, 0, 3), 0);
  const at = rowPtr(tensor(args, 0, 2), 0) + (<usize>item << 2);
  const start = load<u32>(at), end = min(load<u32>(at, 4), <u32>colsOf(tensor(args, 0, 0)));
  let sum: f64 = 0;
  for (let n = start; n < end; n++) sum += <f64>load<f32>(logProb + (<usize>n << 2)) - <f64>load<f32>(old + (<usize>n << 2));
  const mean = sum / (<f64>end - <f64>start);
  for (let n = start; n < end; n++) store<f32>(y + (<usize>n << 2), <f32>(<f64>load<f32>(logProb + (<usize>n << 2)) - mean));
}
