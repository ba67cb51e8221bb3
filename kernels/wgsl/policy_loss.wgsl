// policy_loss, first stage: with ratio = e^(logProb - old), c = clip(ratio, 1 - clipLow, 1 + clipHigh) and r = reference - logProb, per token
// of weight w != 0:
//   loss = policy + klCoef KL,   dLogProb = scale w dloss
//   FORM 0, ppo_clip    policy = -min(ratio A, c A); slope -A ratio, 0 where the clipped side is the smaller. Where A < 0 and dual > 0 no more
//                       than -dual A; slope 0 there
//   FORM 1, cispo       policy = -c A logProb, c constant; slope -c A
//   FORM 2, reinforce   policy = -A logProb; slope -A
//   KL 1, 2, 3          KL = -r, slope 1;   r^2 / 2, slope -r;   e^r - r - 1, slope 1 - e^r
// The entropy bonus is policy_loss_entropy's; policy_loss_stats adds both to the stats.
//
// Source    Schulman et al. 2017, arXiv:1707.06347 (clip); two bounds: Yu et al. 2025, arXiv:2503.14476; dual clip: Ye et al. 2020,
//           arXiv:1912.09729; cispo: MiniMax 2025, arXiv:2506.13585; Schulman 2020, "Approximating KL divergence"
// Shapes    all [1, N]   sums: SLOTS pairs (value, rest) per chunk of CHUNK tokens: 0 w loss   1 clipped below   2 clipped above
//           3 old - logProb   4 k3   5 (entropy)   6 bits of the largest |logProb - old|   7 tokens   8 held by dual   9 (w entropy)
// Prologue  REFERENCE: whether `reference` is one; without, k3 is 0. FORM, KL
// Dispatch  one workgroup per chunk, 4 tokens an invocation
// Numerics  f32 a token, sums in pairs. Both log-ratios are clamped to [-20, 20] before e^; beyond, they pass no gradient. k3 by its series
//           near 0, where e^r - r - 1 would cancel. NaN at a token that counts reaches the sums and its gradient: the tests for it look
//           at bits, since min, max and clamp may drop it
// Limits    a token of weight 0 gets a gradient of 0 and adds to no sum, whatever its other values

#include lib/pairs

struct Params { tokens: u32, zero: u32, low: f32, high: f32, kl_coef: f32, scale: f32, dual: f32 }

@group(0) @binding(0) var<storage, read> log_prob: array<f32>;
@group(0) @binding(1) var<storage, read> old_log_prob: array<f32>;
@group(0) @binding(2) var<storage, read> reference: array<f32>;
@group(0) @binding(3) var<storage, read> advantage: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_log_prob: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(7) var<uniform> p: Params;

const CHUNK: u32 = 256u;
const SLOTS: u32 = 10u;
const OWN: u32 = 8u; // sums of this stage, before they are put into slots
var<workgroup> parts: array<vec2<f32>, 512>; // OWN x 64

fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

// e^x for |x| <= 20: 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes expf), relative error 1e-7
fn exp_near(x: f32) -> f32 {
  let n = floor(fma(x, 1.44269504, 0.5));
  let r = fma(n, 2.12194440e-4, fma(n, -0.693359375, x));
  var q = 1.9875691500e-4;
  q = fma(q, r, 1.3981999507e-3);
  q = fma(q, r, 8.3334519073e-3);
  q = fma(q, r, 4.1665795894e-2);
  q = fma(q, r, 1.6666665459e-1);
  q = fma(q, r, 5.0000001201e-1);
  return (fma(q, r * r, r) + 1.0) * bitcast<f32>(u32(i32(n) + 127) << 23u);
}

// e^r - r - 1 for |r| <= 20: the series up to r^10 / 10! where |r| <= 1/2
fn k3_of(r: f32) -> f32 {
  if (abs(r) > 0.5) { return exp_near(r) - r - 1.0; }
  var q = 2.7557319e-7;
  q = fma(q, r, 2.7557319e-6);
  q = fma(q, r, 2.4801587e-5);
  q = fma(q, r, 1.9841270e-4);
  q = fma(q, r, 1.3888889e-3);
  q = fma(q, r, 8.3333333e-3);
  q = fma(q, r, 4.1666667e-2);
  q = fma(q, r, 1.6666667e-1);
  q = fma(q, r, 0.5);
  return q * r * r;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let chunk = wg.y * grid.x + wg.x;
  if (chunk * CHUNK >= p.tokens) { return; }
  var own: array<vec2<f32>, OWN>; // loss, low, high, k1, k3, largest, tokens, dual
  for (var k = 0u; k < CHUNK / 64u; k++) {
    let n = chunk * CHUNK + 64u * k + t;
    if (n >= p.tokens) { break; }
    let w = weight[n];
    if ((bitcast<u32>(w) & 0x7fffffffu) == 0u) { d_log_prob[n] = 0.0; continue; }

    let difference = log_prob[n] - old_log_prob[n];
    let far = abs(difference) > 20.0 && !is_nan(difference);
    let ratio = select(exp_near(clamp(difference, -20.0, 20.0)), difference, is_nan(difference));
    let A = advantage[n];
    let plain = -A * ratio;
    let bound = select(max(p.low, min(p.high, ratio)), ratio, is_nan(ratio));
    let held = -A * bound;
    let clipped = held > plain && !is_nan(plain);
    var loss = select(plain, held, clipped);
    var slope = select(plain, 0.0, clipped || far);
    var below = clipped && ratio < p.low;
    var above = clipped && !(ratio < p.low);
    if (FORM == 0u) {
      if (p.dual > 0.0 && A < 0.0 && loss > -A * p.dual) {
        loss = -A * p.dual;
        slope = 0.0;
        own[7].x += 1.0;
      }
    } else {
      slope = select(held, -A, FORM == 2u);
      loss = slope * log_prob[n];
      below = FORM == 1u && ratio < p.low;
      above = FORM == 1u && ratio > p.high;
    }
    var k3 = 0.0;
    if (REFERENCE) {
      let r = reference[n] - log_prob[n];
      let near = clamp(r, -20.0, 20.0);
      k3 = select(k3_of(near), r, is_nan(r));
      if (KL == 3u) {
        loss = fma(p.kl_coef, k3, loss);
        // 1 - e^r = -(r + k3)
        slope += select(-p.kl_coef * (near + k3), 0.0, abs(r) > 20.0 && !is_nan(r));
      } else if (KL == 2u) {
        loss = fma(p.kl_coef, 0.5 * r * r, loss);
        slope -= p.kl_coef * r;
      } else {
        loss = fma(p.kl_coef, -r, loss);
        slope += select(p.kl_coef, r, is_nan(r));
      }
    }
    d_log_prob[n] = p.scale * (w * slope);

    own[0] = add_pairs(own[0], vec2<f32>(w * loss, 0.0));
    own[1].x += select(0.0, 1.0, below);
    own[2].x += select(0.0, 1.0, above);
    own[3] = add_pairs(own[3], vec2<f32>(-difference, 0.0));
    own[4] = add_pairs(own[4], vec2<f32>(k3, 0.0));
    // as integers, floats without sign are in order, with infinity and NaN above all others
    own[5].x = bitcast<f32>(max(bitcast<u32>(own[5].x), bitcast<u32>(difference) & 0x7fffffffu));
    own[6].x += 1.0;
  }
  for (var s = 0u; s < OWN; s++) { parts[s * 64u + t] = own[s]; }
  workgroupBarrier();
  if (t >= OWN) { return; }
  var sum = parts[t * 64u];
  for (var k = 1u; k < 64u; k++) {
    let part = parts[t * 64u + k];
    if (t == 5u) { sum.x = bitcast<f32>(max(bitcast<u32>(sum.x), bitcast<u32>(part.x))); } else { sum = add_pairs(sum, part); }
  }
  sums[chunk * SLOTS + t + select(0u, 1u, t >= 5u)] = sum;
}
