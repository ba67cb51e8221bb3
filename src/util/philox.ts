/**
 * Philox4x32-10, a counter-based random number generator: the number is a pure function of key and counter, so that what is
 * drawn does not depend on the order in which it is drawn. Kernels implement the same function bit for bit.
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
 */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

export type Words2 = readonly [number, number];
export type Words4 = readonly [number, number, number, number];

function multiplyHigh(a: number, b: number): number {
  const al = a & 0xffff,
    ah = a >>> 16,
    bl = b & 0xffff,
    bh = b >>> 16;
  const low = al * bl;
  const mid = ah * bl + (low >>> 16);
  const mid2 = al * bh + (mid & 0xffff);
  return (ah * bh + Math.floor(mid / 65536) + (mid2 >>> 16)) >>> 0;
}

/** Ten rounds; every word is an unsigned 32-bit integer. */
export function philox(key: Words2, counter: Words4): Words4 {
  let [k0, k1] = key;
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < 10; round++) {
    const h0 = multiplyHigh(M0, c0),
      l0 = Math.imul(M0, c0) >>> 0;
    const h1 = multiplyHigh(M1, c2),
      l1 = Math.imul(M1, c2) >>> 0;
    c0 = (h1 ^ c1 ^ k0) >>> 0;
    c1 = l1;
    c2 = (h0 ^ c3 ^ k1) >>> 0;
    c3 = l0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** What random numbers are drawn for. The number is part of every key: append, never renumber. */
export const purposes = {
  policySample: 1,
  simulatorSample: 2,
  curriculum: 3,
  evaluation: 4,
  data: 5,
  initialise: 6,
  bootstrap: 7,
  simulatorData: 8,
  moments: 9,
  simulatorRedraw: 10,
  engineWait: 11,
} as const;
export type Purpose = keyof typeof purposes;

/** The Philox key of one seed and purpose. `seed` is a non-negative safe integer. */
export function streamKey(seed: number, purpose: Purpose): Words2 {
  const [a, b] = philox([seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0], [purposes[purpose], 0x5a5a5a5a, 0, 0]);
  return [a, b];
}

/** A float in [0, 1) with 24 random bits. */
export function uniform(key: Words2, counter: Words4): number {
  return (philox(key, counter)[0] >>> 8) * 2 ** -24;
}
