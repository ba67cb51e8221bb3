// Philox4x32-10, bit for bit src/util/philox.ts: a random word from key and counter alone.
//
// Source    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"

/** Word 0 of the ten-round output. */
export function philoxWord0(k0: u32, k1: u32, c0: u32, c1: u32, c2: u32, c3: u32): u32 {
  for (let round = 0; round < 10; round++) {
    const a = <u64>0xd2511f53 * <u64>c0, b = <u64>0xcd9e8d57 * <u64>c2;
    c0 = <u32>(b >> 32) ^ c1 ^ k0; c1 = <u32>b;
    c2 = <u32>(a >> 32) ^ c3 ^ k1; c3 = <u32>a;
    k0 += 0x9e3779b9; k1 += 0xbb67ae85;
  }
  return c0;
}

/**
 * All four words of the counters (first + i, c1, 0, 0) for i < count, in order, as u32 at `to`: 16 bytes a counter, for count rounded up
 * to a multiple of 4.
 */
export function philoxWords(k0: u32, k1: u32, first: u32, c1: u32, count: i32, to: usize): void {
  const M0 = i32x4.splat(0xd2511f53), M1 = i32x4.splat(0xcd9e8d57);
  for (let i = 0; i < count; i += 4) {
    // lane i of each vector belongs to counter i
    let a = i32x4.add(i32x4.splat(first + i), i32x4(0, 1, 2, 3)), b = i32x4.splat(c1), c = i32x4.splat(0), d = i32x4.splat(0);
    let key0 = k0, key1 = k1;
    for (let round = 0; round < 10; round++) {
      const a0 = i64x2.extmul_low_i32x4_u(M0, a), a1 = i64x2.extmul_high_i32x4_u(M0, a);
      const c0 = i64x2.extmul_low_i32x4_u(M1, c), c1 = i64x2.extmul_high_i32x4_u(M1, c);
      a = v128.xor(v128.xor(v128.shuffle<u32>(c0, c1, 1, 3, 5, 7), b), i32x4.splat(key0));
      b = v128.shuffle<u32>(c0, c1, 0, 2, 4, 6);
      c = v128.xor(v128.xor(v128.shuffle<u32>(a0, a1, 1, 3, 5, 7), d), i32x4.splat(key1));
      d = v128.shuffle<u32>(a0, a1, 0, 2, 4, 6);
      key0 += 0x9e3779b9; key1 += 0xbb67ae85;
    }
    const ab0 = v128.shuffle<u32>(a, b, 0, 4, 1, 5), ab1 = v128.shuffle<u32>(a, b, 2, 6, 3, 7);
    const cd0 = v128.shuffle<u32>(c, d, 0, 4, 1, 5), cd1 = v128.shuffle<u32>(c, d, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<u64>(ab0, cd0, 0, 2), 0); v128.store(to, v128.shuffle<u64>(ab0, cd0, 1, 3), 16);
    v128.store(to, v128.shuffle<u64>(ab1, cd1, 0, 2), 32); v128.store(to, v128.shuffle<u64>(ab1, cd1, 1, 3), 48);
    to += 64;
  }
}
