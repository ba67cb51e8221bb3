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
