/** AdamW in float64, with moments stored in full, as bf16 and in 8 bits. */
import { philox } from "../../src/util/philox.ts";
import { dim, need, type Dims, type Maybe, type ReferenceKernel } from "./kernel-types.ts";

/** Moments and parameter of one element after a step; moments are stored by the caller. */
interface Stepped {
  readonly m: number;
  readonly v: number;
  readonly param: number;
}

function stepper(dims: Dims, clip: Maybe): ((grad: number, m: number, v: number, param: number) => Stepped) | null {
  const scale = need(clip).values[1]!;
  if (Number.isNaN(scale)) return null;
  const [lr, beta1, beta2, eps, decay, c1, c2] = ["lr", "beta1", "beta2", "eps", "weightDecay", "correction1", "correction2"].map((name) =>
    dim(dims, name),
  ) as [number, number, number, number, number, number, number];
  return (raw, oldM, oldV, param) => {
    const g = raw * scale;
    const m = beta1 * oldM + (1 - beta1) * g;
    const v = beta2 * oldV + (1 - beta2) * g * g;
    return { m, v, param: param - lr * (m / c1 / (Math.sqrt(v / c2) + eps) + decay * param) };
  };
}

/** The two halves of an element's random word: [for m, for v], 16 bits each. */
function halves(dims: Dims, row: number, col: number): readonly [number, number] {
  const word = philox([dim(dims, "key0"), dim(dims, "key1")], [Math.floor(col / 4), row, 0, 0])[col % 4]!;
  return [word % 65536, Math.floor(word / 65536)];
}

/** Of the two bf16 next to the f32 of x, the one farther from 0 if what x is beyond the nearer, in 65536ths, and `random` reach 65536. */
function toBf16AtRandom(x: number, random: number): number {
  const size = Math.abs(Math.fround(x));
  if (size === 0) return x;
  const gap = 2 ** (Math.max(-126, Math.floor(Math.log2(size))) - 7);
  const below = Math.floor(size / gap);
  const beyond = (size / gap - below) * 65536;
  return Math.sign(x) * (beyond + random >= 65536 ? below + 1 : below) * gap;
}

/**
 * The numbers of 8-bit codes, rising, read off their bits: a sign where there is one, zeros of which each divides by ten, a one, and a
 * fraction whose value is the middle of its part of [0.1, 1). The two codes left over are 0 and 1.
 */
export function dynamicNumbers(signed: boolean): number[] {
  const numbers = [0, 1];
  for (let code = 1; code < 256; code++) {
    const bits = signed ? 7 : 8;
    const magnitude = code % 2 ** bits;
    if (magnitude === 0 || (!signed && magnitude === 1)) continue;
    const fractionBits = Math.floor(Math.log2(magnitude));
    const fraction = magnitude - 2 ** fractionBits;
    const value = 10 ** (fractionBits - bits + 1) * (0.1 + (0.9 * (fraction + 0.5)) / 2 ** fractionBits);
    numbers.push(code >= 2 ** bits ? -value : value);
  }
  return numbers.sort((a, b) => a - b);
}
const signedNumbers = dynamicNumbers(true);
const unsignedNumbers = dynamicNumbers(false);
const zeroCode = signedNumbers.indexOf(0);

/** The code of x in [0, 1] among rising numbers from 0: the upper of the two next to it with a probability of its distance from the lower. */
function codeAtRandom(numbers: readonly number[], x: number, random: number): number {
  let place = 0;
  while (place + 1 < numbers.length && numbers[place + 1]! <= x) place++;
  if (place + 1 === numbers.length) return place;
  const share = (x - numbers[place]!) / (numbers[place + 1]! - numbers[place]!);
  return share + (random + 0.5) / 65536 >= 1 ? place + 1 : place;
}

function signedCode(x: number, random: number): number {
  const place = codeAtRandom(signedNumbers.slice(zeroCode), Math.abs(x), random);
  return x < 0 ? zeroCode - Math.min(place, zeroCode) : zeroCode + place;
}

export const adamwKernels: Readonly<Record<"adamw" | "adamw_bf16" | "adamw_8bit", ReferenceKernel>> = {
  adamw: (dims, [grad, clip], [param, m, v]) => {
    const step = stepper(dims, clip);
    if (step === null) return;
    need(grad).values.forEach((g, i) => {
      const next = step(g, need(m).values[i]!, need(v).values[i]!, need(param).values[i]!);
      need(m).values[i] = next.m;
      need(v).values[i] = next.v;
      need(param).values[i] = next.param;
    });
  },
  adamw_bf16: (dims, [grad, clip], [param, m, v]) => {
    const step = stepper(dims, clip);
    if (step === null) return;
    const C = need(param).cols;
    need(grad).values.forEach((g, i) => {
      const next = step(g, need(m).values[i]!, need(v).values[i]!, need(param).values[i]!);
      const [randomM, randomV] = halves(dims, Math.floor(i / C), i % C);
      need(m).values[i] = toBf16AtRandom(next.m, randomM);
      need(v).values[i] = toBf16AtRandom(next.v, randomV);
      need(param).values[i] = next.param;
    });
  },
  adamw_8bit: (dims, [grad, clip], [param, mCodes, vCodes, scales]) => {
    const step = stepper(dims, clip);
    if (step === null) return;
    const [N, C, W] = [need(param).rows, need(param).cols, need(mCodes).cols];
    const codeOf = (words: Maybe, n: number, c: number): number =>
      Math.floor(need(words).values[n * W + Math.floor(c / 4)]! / 256 ** (c % 4)) % 256;
    const setCode = (words: Maybe, n: number, c: number, code: number): void => {
      need(words).values[n * W + Math.floor(c / 4)]! += (code - codeOf(words, n, c)) * 256 ** (c % 4);
    };
    for (let n = 0; n < N; n++)
      for (let first = 0; first < C; first += 256) {
        const at = n * need(scales).cols + 2 * (first / 256);
        const [oldM, oldV] = [need(scales).values[at]!, need(scales).values[at + 1]!];
        const stepped: Stepped[] = [];
        for (let c = first; c < Math.min(C, first + 256); c++) {
          const [m, v] = [signedNumbers[codeOf(mCodes, n, c)]! * oldM, unsignedNumbers[codeOf(vCodes, n, c)]! * oldV];
          const next = step(need(grad).values[n * C + c]!, m, v, need(param).values[n * C + c]!);
          need(param).values[n * C + c] = next.param;
          stepped.push(next);
        }
        const most = (x: readonly number[]): number => {
          const largest = Math.max(...x.map(Math.abs));
          return largest < 2 ** -120 ? 0 : largest;
        };
        const [scaleM, scaleV] = [most(stepped.map(({ m }) => m)), most(stepped.map(({ v }) => v))];
        need(scales).values[at] = scaleM;
        need(scales).values[at + 1] = scaleV;
        // bytes behind the last column hold the codes of 0
        for (let c = first; c < Math.min(4 * W, first + 256); c++) {
          const { m, v } = stepped[c - first] ?? { m: 0, v: 0 };
          const [randomM, randomV] = halves(dims, n, c);
          setCode(mCodes, n, c, signedCode(scaleM === 0 ? 0 : m / scaleM, randomM));
          const code = codeAtRandom(unsignedNumbers, scaleV === 0 ? 0 : v / scaleV, randomV);
          setCode(vCodes, n, c, v > 0 ? Math.max(1, code) : code);
        }
      }
  },
};
