// rms_norm_backward, last stage: dweight += the chunks' shares
//
// Shapes    shares: `chunks` rows of `units` vec4, whose last may have undefined lanes   dweight [1, C]
// Dispatch  one workgroup per 16 units; 16 invocations to a unit, each of which adds every 16th chunk in order
// Numerics  f32; the order depends on the number of chunks only
struct Params { chunks: u32, units: u32 }

@group(0) @binding(0) var<storage, read> shares: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dweight: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let unit = wg.x * 16u + t % 16u;
  var sum = vec4<f32>(0.0);
  if (unit < p.units) {
    for (var c = t / 16u; c < p.chunks; c += 16u) { sum += shares[c * p.units + unit]; }
  }
  sums[t] = sum;
  workgroupBarrier();
  if (t >= 16u || unit >= p.units) { return; }
  for (var k = 1u; k < 16u; k++) { sum += sums[16u * k + t]; }
  dweight[unit] = dweight[unit] + sum;
}
