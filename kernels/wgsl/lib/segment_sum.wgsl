// Sums over the invocations of a segment of the workgroup of 256. THREADS: those of a segment, a power of two

var<workgroup> sums: array<f32, 256>;
var<workgroup> sixteens: array<f32, 16>;

// The sum of `own` over the THREADS invocations of a segment, to each of them: in sixteens, then those, in order
fn segment_sum(own: f32, t: u32) -> f32 {
  sums[t] = own;
  workgroupBarrier();
  var sum = 0.0;
  let first = (t / THREADS) * THREADS;
  if (THREADS <= 16u) {
    for (var k = 0u; k < THREADS; k++) { sum += sums[first + k]; }
    workgroupBarrier(); // before the next segment's sums
  } else {
    if (t < 16u) {
      for (var k = 0u; k < 16u; k++) { sum += sums[16u * t + k]; }
      sixteens[t] = sum;
    }
    workgroupBarrier();
    sum = 0.0;
    for (var k = 0u; k < THREADS / 16u; k++) { sum += sixteens[first / 16u + k]; }
  }
  return sum;
}
