// Philox4x32-10 (Salmon et al. 2011), four random words of a key and a counter

#include lib/multiply_high

fn philox(key: vec2<u32>, counter: vec4<u32>) -> vec4<u32> {
  var k = key;
  var c = counter;
  for (var round = 0u; round < 10u; round++) {
    c = vec4(
      multiply_high(0xcd9e8d57u, c.z) ^ c.y ^ k.x, 0xcd9e8d57u * c.z,
      multiply_high(0xd2511f53u, c.x) ^ c.w ^ k.y, 0xd2511f53u * c.x,
    );
    k += vec2(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
