// policy_loss: with ratio = e^(logProb - old), c = clip(ratio, 1 - clipLow, 1 + clipHigh) and r = reference - logProb, per token of weight w != 0:
//   loss = policy + klCoef KL - entropyCoef H,   dLogProb = scale w dloss,   dEntropy = -scale w entropyCoef
//   form 0, ppo_clip    policy = -min(ratio A, c A); slope -A ratio, 0 where the clipped side is the smaller. Where A < 0 and dualClip > 0 no more
//                       than -dualClip A; slope 0 there
//   form 1, cispo       policy = -c A logProb, c constant; slope -c A
//   form 2, reinforce   policy = -A logProb; slope -A
//   kl 1, 2, 3          KL = -r, slope 1;   r^2 / 2, slope -r;   e^r - r - 1, slope 1 - e^r
//
// Source    Schulman et al. 2017, arXiv:1707.06347 (clip); two bounds: Yu et al. 2025, arXiv:2503.14476; dual clip: Ye et al. 2020,
//           arXiv:1912.09729; cispo: MiniMax 2025, arXiv:2506.13585; Schulman 2020, "Approximating KL divergence"
// Shapes    all [1, N] but stats [1, 9]
// Stats     += sums over tokens of w != 0: 0 scale w loss   1 clipped below   2 clipped above   3 old - logProb (k1)
//           4 k3 to the reference   5 entropy   7 tokens   8 held by dualClip; 6 is the running maximum of |logProb - old|
// Items     phase 0: CHUNK tokens, whose stats go to shared scratch; phase 1: one item adds them in order
// Numerics  f64. Both log-ratios are clamped to [-20, 20] before e^; beyond, they pass no gradient
// Limits    a token of weight 0 gets gradients of 0 and adds to no stat, whatever its other values. Without a reference k3 is 0
import { dim, dimI, tensor, sharedScratch, colsOf, rowPtr } from "./lib/call";

const CHUNK: i32 = 1024;
const STATS: i32 = 9;
const CISPO: i32 = 1;
const REINFORCE: i32 = 2;

// @ts-ignore: decorator
@inline function chunks(args: usize): i32 { return (colsOf(tensor(args, 8, 0)) + CHUNK - 1) / CHUNK; }

export function policy_loss_scratch(args: usize): usize { return <usize>(chunks(args) * STATS) << 3; }
export function policy_loss_items(args: usize, phase: i32): i32 { return phase == 0 ? chunks(args) : phase == 1 ? 1 : -1; }

export function policy_loss_work(args: usize, phase: i32, item: i32, scratch: usize): void {
  if (phase == 1) { addStats(args); return; }
  const low: f64 = 1 - dim(args, 0), high: f64 = 1 + dim(args, 1), klCoef = dim(args, 2), entropyCoef = dim(args, 3), scale = dim(args, 4);
  const dualClip = dim(args, 5), form = dimI(args, 6), kind = dimI(args, 7);
  const logProb = rowPtr(tensor(args, 8, 0), 0), old = rowPtr(tensor(args, 8, 1), 0), entropy = rowPtr(tensor(args, 8, 3), 0);
  const advantage = rowPtr(tensor(args, 8, 4), 0), weight = rowPtr(tensor(args, 8, 5), 0);
  const reference = tensor(args, 8, 2) ? rowPtr(tensor(args, 8, 2), 0) : 0;
  const dLogProb = rowPtr(tensor(args, 8, 6), 0), dEntropy = rowPtr(tensor(args, 8, 7), 0);
  let lossSum: f64 = 0, lows: f64 = 0, highs: f64 = 0, k1: f64 = 0, k3: f64 = 0, entropySum: f64 = 0, largest: f64 = 0, tokens: f64 = 0, duals: f64 = 0;
  const end = min(colsOf(tensor(args, 8, 0)), (item + 1) * CHUNK);
  for (let n = item * CHUNK; n < end; n++) {
    const i = <usize>n << 2, w = <f64>load<f32>(weight + i);
    if (w == 0) { store<f32>(dLogProb + i, 0); store<f32>(dEntropy + i, 0); continue; }
    const A = <f64>load<f32>(advantage + i), lp = <f64>load<f32>(logProb + i), H = <f64>load<f32>(entropy + i);
    const difference = lp - <f64>load<f32>(old + i), ratio = NativeMath.exp(max(<f64>-20, min(<f64>20, difference)));
    const held = max(low, min(high, ratio)), plain = -A * ratio, clipped = -A * held;
    let loss: f64, slope: f64 = 0;
    if (form == REINFORCE) { slope = -A; loss = slope * lp; }
    else if (form == CISPO) {
      slope = clipped; loss = slope * lp;
      if (ratio < low) lows += 1; else if (ratio > high) highs += 1;
    } else {
      loss = max(plain, clipped);
      if (clipped > plain) { if (ratio < low) lows += 1; else highs += 1; }
      else if (!(abs(difference) > 20)) slope = plain; // NaN passes through
      if (dualClip > 0 && A < 0 && loss > -A * dualClip) { loss = -A * dualClip; slope = 0; duals += 1; }
    }
    if (reference) {
      const r = <f64>load<f32>(reference + i) - lp, clamped = max(<f64>-20, min(<f64>20, r)), e = NativeMath.exp(clamped), kl = e - clamped - 1;
      k3 += kl;
      loss += klCoef * (kind == 1 ? -r : kind == 2 ? r * r / 2 : kl);
      if (kind != 3) slope += kind == 1 ? klCoef : -klCoef * r;
      else if (!(abs(r) > 20)) slope += klCoef * (1 - e);
    }
    loss -= entropyCoef * H;
    store<f32>(dLogProb + i, <f32>(scale * w * slope));
    store<f32>(dEntropy + i, <f32>(-scale * w * entropyCoef));
    lossSum += scale * w * loss; k1 -= difference; entropySum += H; tokens += 1;
    largest = max(largest, abs(difference));
  }
  const to = sharedScratch(args) + (<usize>(item * STATS) << 3);
  store<f64>(to, lossSum); store<f64>(to, lows, 8); store<f64>(to, highs, 16); store<f64>(to, k1, 24);
  store<f64>(to, k3, 32); store<f64>(to, entropySum, 40); store<f64>(to, largest, 48); store<f64>(to, tokens, 56);
  store<f64>(to, duals, 64);
}

function addStats(args: usize): void {
  const stats = rowPtr(tensor(args, 8, 8), 0);
  for (let s = 0; s < STATS; s++) {
    const to = stats + (<usize>s << 2);
    let x: f64 = s == 6 ? <f64>load<f32>(to) : 0;
    for (let c = 0; c < chunks(args); c++) {
      const part = load<f64>(sharedScratch(args) + (<usize>(c * STATS + s) << 3));
      x = s == 6 ? max(x, part) : x + part;
    }
    store<f32>(to, s == 6 ? <f32>x : <f32>(<f64>load<f32>(to) + x));
  }
}
