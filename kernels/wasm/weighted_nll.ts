// weighted_nll: loss = scale * sum_n weights[n] * -logProb[n];   dLogProb[n] = -scale weights[n]
//
// Shapes    logProb, weights, dLogProb [1, N]   stats [1, 2], +=: loss, sum of weights
// Items     phase 0: CHUNK tokens, whose sums go to shared scratch; phase 1: one item adds them in order
// Numerics  sums in f64
// Limits    a token of weight 0 gets a gradient of 0 and adds nothing, whatever its log-probability
import { dim, tensor, sharedScratch, colsOf, rowPtr } from "./lib/call";

const CHUNK: i32 = 4096;

// @ts-ignore: decorator
@inline function chunks(args: usize): i32 { return (colsOf(tensor(args, 1, 0)) + CHUNK - 1) / CHUNK; }

export function weighted_nll_scratch(args: usize): usize { return <usize>chunks(args) << 4; }
export function weighted_nll_items(args: usize, phase: i32): i32 { return phase == 0 ? chunks(args) : phase == 1 ? 1 : -1; }

export function weighted_nll_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  const logProb = rowPtr(tensor(args, 1, 0), 0), weights = rowPtr(tensor(args, 1, 1), 0), dLogProb = rowPtr(tensor(args, 1, 2), 0);
  const sums = sharedScratch(args), scale = dim(args, 0);
  let loss: f64 = 0, weight: f64 = 0;
  if (phase == 1) {
    const stats = rowPtr(tensor(args, 1, 3), 0);
    for (let c = 0; c < chunks(args); c++) { loss += load<f64>(sums + (<usize>c << 4)); weight += load<f64>(sums + (<usize>c << 4), 8); }
    store<f32>(stats, <f32>(<f64>load<f32>(stats) + loss));
    store<f32>(stats, <f32>(<f64>load<f32>(stats, 4) + weight), 4);
    return;
  }
  const end = min(colsOf(tensor(args, 1, 0)), (item + 1) * CHUNK);
  for (let n = item * CHUNK; n < end; n++) {
    const i = <usize>n << 2, w = <f64>load<f32>(weights + i);
    if (w == 0) { store<f32>(dLogProb + i, 0); continue; }
    store<f32>(dLogProb + i, <f32>(-scale * w));
    loss -= scale * w * <f64>load<f32>(logProb + i);
    weight += w;
  }
  store<f64>(sums + (<usize>item << 4), loss);
  store<f64>(sums + (<usize>item << 4), weight, 8);
}
