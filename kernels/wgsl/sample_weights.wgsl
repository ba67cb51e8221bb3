// sample_weights: sums of the weights e^(z - m) of every 1024 ids, z = logit / temperature, for rows that sample all ids
//
// Shapes    logits [R, V]   settings [R, 4]: temperature, topK, topP, unused   positions: vector   stats [R], as log_softmax_merge leaves
//           them   sums [R, ceil(V / 1024)]: 64-bit integers, low word first
// Dispatch  [ceil(V / 4096), R] workgroups
// Numerics  a weight is an integer, the nearest to e^(z - m) 2^44: sums are exact and no order can change them. Up to 2^19 ids fit 64 bits;
//           what weighs less than 2^-45 of the likeliest id weighs nothing.
// Limits    sums of rows that are inactive or greedy, or that keep the top k, are left undefined

#include lib/weight

struct Params { vocabulary: u32, stride4: u32, logits_row: u32, first_setting: u32, settings_stride: u32, first: u32, blocks: u32 }

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> settings: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read> stats: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec2<u32>>;
@group(0) @binding(5) var<uniform> p: Params;

const THREADS: u32 = 256u;
const NONE: u32 = 0xffffffffu;

// of the four blocks, each invocation's four ids
var<workgroup> parts: array<vec2<u32>, 1024>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let setting = p.first_setting + row * p.settings_stride;
  let top_k = settings[setting + 1u];
  if (positions[p.first + row] == NONE || !(settings[setting] > 0.0) || (top_k >= 1.0 && top_k < f32(p.vocabulary))) { return; }
  let record = stats[row];
  let m = bitcast<f32>(record.x);
  let inverse = bitcast<f32>(record.w);
  for (var i = 0u; i < 4u; i++) {
    let column = group.x * 4096u + (i * THREADS + lane) * 4u;
    var sum = vec2(0u);
    if (column < p.vocabulary) {
      let logit = logits[(p.logits_row + row) * p.stride4 + column / 4u];
      for (var j = 0u; j < 4u; j++) {
        if (column + j < p.vocabulary) { sum = add64(sum, weight(logit[j], inverse, m)); }
      }
    }
    parts[i * THREADS + lane] = sum;
  }
  workgroupBarrier();
  // 64, then 8, then 1 for each block: those of block b and number q are b * 256 + q + 64 j, then b * 64 + q + 8 j
  let q = lane % 64u;
  var sum = parts[lane / 64u * THREADS + q];
  for (var j = 1u; j < 4u; j++) { sum = add64(sum, parts[lane / 64u * THREADS + q + 64u * j]); }
  workgroupBarrier();
  parts[lane] = sum;
  workgroupBarrier();
  if (lane < 32u) {
    let first = lane / 8u * 64u + lane % 8u;
    sum = parts[first];
    for (var j = 1u; j < 8u; j++) { sum = add64(sum, parts[first + 8u * j]); }
    parts[256u + lane] = sum;
  }
  workgroupBarrier();
  if (lane < 4u && group.x * 4u + lane < p.blocks) {
    sum = parts[256u + lane * 8u];
    for (var j = 1u; j < 8u; j++) { sum = add64(sum, parts[256u + lane * 8u + j]); }
    sums[row * p.blocks + group.x * 4u + lane] = sum;
  }
}
