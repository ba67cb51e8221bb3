// log_prob: what a target has of its row: logProb = z[target] - lse, with the row's entropy and lse
//
// Shapes    logits [R, V]   stats [R], as log_softmax_merge leaves them   targets and outputs: vectors, of which rows first.. belong to these logits
// Dispatch  one invocation per row
// Numerics  z - lse is one fma, as in sample
// Limits    a target >= V gives NaN; so does a row whose lse is NaN
struct Params { rows: u32, vocabulary: u32, stride: u32, first: u32 }

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> stats: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> log_prob: array<u32>;
@group(0) @binding(4) var<storage, read_write> entropy: array<u32>;
@group(0) @binding(5) var<storage, read_write> lse: array<u32>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  if (row >= p.rows) { return; }
  let record = stats[row];
  let n = p.first + row;
  let target_id = targets[n];
  var value = 0x7fc00000u;
  if (target_id < p.vocabulary && (record.y & 0x7fffffffu) <= 0x7f800000u) {
    value = bitcast<u32>(fma(logits[row * p.stride + target_id], bitcast<f32>(record.w), -bitcast<f32>(record.y)));
  }
  log_prob[n] = value;
  entropy[n] = record.z;
  lse[n] = record.y;
}
