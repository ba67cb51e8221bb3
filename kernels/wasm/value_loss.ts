// value_loss: with c = clamp(value, old - clip, old + clip), a = value - return and b = c - return, per token of weight w != 0:
//   loss = max(a^2, b^2) / 2,   dValue = scale w a, and 0 where b^2 is the larger: c is a constant there.   clip 0: b = a
//
// Source    Schulman et al. 2017, arXiv:1707.06347; the clipped form is that of OpenAI's baselines, ppo2
// Shapes    value, dValue [N, 1]   old, return, weight [1, N]   stats [1, 3]
// Stats     += sums over tokens of w != 0: 0 scale w loss   1 tokens whose b^2 is the larger   2 tokens
// Items     phase 0: CHUNK tokens, whose stats go to shared scratch; phase 1: one item adds them in order
// Numerics  f64. |a| and |b| are compared, not their squares. NaN at a token that counts reaches loss and gradient; of `old` only where clip is not 0
// Limits    a token of weight 0 gets a gradient of 0 and adds to no stat, whatever its other values
import { dim, tensor, sharedScratch, rowsOf, rowPtr } from "./lib/call";

const CHUNK: i32 = 1024;
const STATS: i32 = 3;

// @ts-ignore: decorator
@inline function chunks(args: usize): i32 { return (rowsOf(tensor(args, 2, 0)) + CHUNK - 1) / CHUNK; }

export function value_loss_scratch(args: usize): usize { return <usize>(chunks(args) * STATS) << 3; }
export function value_loss_items(args: usize, phase: i32): i32 { return phase == 0 ? chunks(args) : phase == 1 ? 1 : -1; }

export function value_loss_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  if (phase == 1) { addStats(args); return; }
  const clip = dim(args, 0), scale = dim(args, 1), value = tensor(args, 2, 0), dValue = tensor(args, 2, 4);
  const old = rowPtr(tensor(args, 2, 1), 0), returns = rowPtr(tensor(args, 2, 2), 0), weight = rowPtr(tensor(args, 2, 3), 0);
  let lossSum: f64 = 0, clips: f64 = 0, tokens: f64 = 0;
  const end = min(rowsOf(value), (item + 1) * CHUNK);
  for (let n = item * CHUNK; n < end; n++) {
    const i = <usize>n << 2, w = <f64>load<f32>(weight + i), to = rowPtr(dValue, n);
    if (w == 0) { store<f32>(to, 0); continue; }
    const v = <f64>load<f32>(rowPtr(value, n)), R = <f64>load<f32>(returns + i), a = v - R;
    let b = a;
    if (clip != 0) {
      const o = <f64>load<f32>(old + i);
      b = max(o - clip, min(o + clip, v)) - R;
    }
    const clipped = abs(b) > abs(a), error = clipped || b != b ? b : a;
    store<f32>(to, <f32>(scale * w * (clipped ? 0 : error)));
    lossSum += scale * w * (error * error / 2); tokens += 1;
    if (clipped) clips += 1;
  }
  const to = sharedScratch(args) + (<usize>(item * STATS) << 3);
  store<f64>(to, lossSum); store<f64>(to, clips, 8); store<f64>(to, tokens, 16);
}

function addStats(args: usize): void {
  const stats = rowPtr(tensor(args, 2, 5), 0);
  for (let s = 0; s < STATS; s++) {
    const to = stats + (<usize>s << 2);
    let x: f64 = 0;
    for (let c = 0; c < chunks(args); c++) x += load<f64>(sharedScratch(args) + (<usize>(c * STATS + s) << 3));
    store<f32>(to, <f32>(<f64>load<f32>(to) + x));
  }
}
