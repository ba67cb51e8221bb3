// log_prob_backward: from logits to their gradients, in place or as an operand of products. With g = dLogProb, h = dEntropy, p = e^(z - lse):
//   dz[v] = (g (1[v = target] - p[v]) - h p[v] (z[v] - lse + entropy)) / temperature
//
// Shapes    logits [R, V]   the rest vectors, of which rows first.. belong to these logits; dEntropy may be absent
//           PACKED: dz [rows, 8 octets] f16, zero-padded as matmul_pack does it; else the gradients take the place of the logits
// Dispatch  [ceil(V / 1024), R] workgroups; an invocation takes 4 logits. PACKED: [ceil(octets / 256), rows], and 8
// Numerics  -p (g + h entropy + h (z - lse)), plus g at the target. Products that feed a sum are explicit fma. Below e^-87 p is 0.
// Limits    a row whose g and h are 0 becomes 0, whatever its other values; otherwise NaN stays NaN

#include lib/exp_lanes

struct Params { vocabulary: u32, stride4: u32, first: u32, has_entropy: u32, rows: u32, octets: u32, temperature: f32 }

#if PACKED
@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read_write> logits: array<vec4<f32>>;
#end
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> entropies: array<f32>;
@group(0) @binding(3) var<storage, read> lses: array<f32>;
@group(0) @binding(4) var<storage, read> d_log_prob: array<f32>;
@group(0) @binding(5) var<storage, read> d_entropy: array<f32>;
#if PACKED
@group(0) @binding(6) var<storage, read_write> dz: array<vec4<u32>>;
@group(0) @binding(7) var<uniform> p: Params;
#else
@group(0) @binding(6) var<uniform> p: Params;
#end

// Gradients of four logits of a row, 0 beyond V
fn gradients(row: u32, column: u32) -> vec4<f32> {
  if (column >= p.vocabulary) { return vec4(0.0); }
  let n = p.first + row;
  let g = d_log_prob[n];
  var h = 0.0;
  if (p.has_entropy != 0u) { h = d_entropy[n]; }
  if (((bitcast<u32>(g) | bitcast<u32>(h)) & 0x7fffffffu) == 0u) { return vec4(0.0); }
  var inverse = 1.0;
  if (p.temperature > 0.0) { inverse = 1.0 / p.temperature; }
  let distance = fma(logits[row * p.stride4 + column / 4u], vec4(inverse), vec4(-lses[n]));
  let x = clamp(distance, vec4(-88.0), vec4(88.0));
  let constant = -fma(h, entropies[n], g);
  var d = (exp_lanes(x) * fma(x, vec4(-h), vec4(constant))) * inverse;
  let columns = vec4(column, column + 1u, column + 2u, column + 3u);
  d += select(vec4(0.0), vec4(g * inverse), columns == vec4(targets[n]));
  // clamp and select need not keep a NaN
  let lost = (bitcast<vec4<u32>>(distance) & vec4(0x7fffffffu)) > vec4(0x7f800000u);
  let bits = select(bitcast<vec4<u32>>(d), vec4(0x7fc00000u), lost);
  return bitcast<vec4<f32>>(select(vec4(0u), bits, columns < vec4(p.vocabulary)));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let unit = group.x * 256u + lane;
#if PACKED
  if (unit >= p.octets) { return; }
  var octet = vec4<u32>(0u);
  if (row < p.rows) {
    let x = gradients(row, 8u * unit);
    let y = gradients(row, 8u * unit + 4u);
    octet = vec4(pack2x16float(x.xy), pack2x16float(x.zw), pack2x16float(y.xy), pack2x16float(y.zw));
  }
  dz[row * p.octets + unit] = octet;
#else
  if (4u * unit < p.vocabulary) { logits[row * p.stride4 + unit] = gradients(row, 4u * unit); }
#end
}
