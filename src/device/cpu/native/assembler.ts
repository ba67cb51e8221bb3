/**
 * An assembler of the few x86-64 instructions that the native kernels need, in the encodings of the Intel manual, volume 2 (VEX and EVEX:
 * sections 2.3 and 2.7). Nothing of it depends on the machine: the same calls give the same bytes anywhere. Jumps are 32 bits wide.
 */

export const Reg = {
  rax: 0,
  rcx: 1,
  rdx: 2,
  rbx: 3,
  rsp: 4,
  rbp: 5,
  rsi: 6,
  rdi: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
  r12: 12,
  r13: 13,
  r14: 14,
  r15: 15,
} as const;
export type Reg = number;

/** [base + index * scale + at]; rsp is no index. */
export interface Memory {
  readonly base: Reg;
  readonly index?: Reg;
  readonly scale?: 1 | 2 | 4 | 8;
  readonly at?: number;
}

/** A distance, and multiples of it, in registers. */
export interface Distance {
  readonly one: Reg;
  readonly three: Reg;
  readonly five: Reg;
  readonly seven: Reg;
}

/** `n` times the distance from `base`, n up to 8. */
export function multipleOf({ one, three, five, seven }: Distance, n: number, base: Reg, at = 0): Memory {
  if (n === 0) return { base, at };
  const odd = n % 3 === 0 ? 3 : n === 5 || n === 7 ? n : 1;
  return { base, index: { 1: one, 3: three, 5: five, 7: seven }[odd], scale: (n / odd) as 1 | 2 | 4 | 8, at };
}

/** Bits of a vector register. Those of 512 bits, and registers from 16 on, need AVX-512 (F and VL). */
export type Bits = 128 | 256 | 512;

/** Unsigned comparisons. */
export type Condition = "below" | "aboveOrEqual" | "equal" | "notEqual" | "above" | "belowOrEqual";
const conditionCode: Readonly<Record<Condition, number>> = { below: 2, aboveOrEqual: 3, equal: 4, notEqual: 5, belowOrEqual: 6, above: 7 };
const scaleBits = { 1: 0, 2: 1, 4: 2, 8: 3 } as const;
const lengthBits: Readonly<Record<Bits, number>> = { 128: 0, 256: 1, 512: 2 };

/** A place in the code: where it is, once placed, and the jumps that wait for it. */
export class Label {
  at = -1;
  readonly waiting: number[] = [];
}

/** How a vector instruction is encoded. `unit`: bytes by which EVEX scales a displacement of 8 bits, a whole vector unless told. */
interface Opcode {
  readonly map: 1 | 2 | 3;
  /** None, 66, F3 or F2. */
  readonly prefix: 0 | 1 | 2 | 3;
  readonly opcode: number;
  readonly wide?: 0 | 1;
  readonly unit?: number;
  readonly immediate?: number;
}

export class Assembler {
  readonly #bytes: number[] = [];

  /** The finished code. */
  code(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  place(label: Label): void {
    label.at = this.#bytes.length;
    for (const from of label.waiting) this.#patch(from, label.at);
  }
  align(n: number): void {
    while (this.#bytes.length % n !== 0) this.#bytes.push(0x90);
  }

  // ---- integers, 64 bits wide unless said ----

  push(r: Reg): void {
    if (r >= 8) this.#bytes.push(0x41);
    this.#bytes.push(0x50 + (r & 7));
  }
  pop(r: Reg): void {
    if (r >= 8) this.#bytes.push(0x41);
    this.#bytes.push(0x58 + (r & 7));
  }
  ret(): void {
    this.#bytes.push(0xc3);
  }
  call(r: Reg): void {
    if (r >= 8) this.#bytes.push(0x41);
    this.#bytes.push(0xff, 0xd0 + (r & 7));
  }
  move(to: Reg, from: Reg): void {
    this.#integer(0x89, from, to);
  }
  /** 32 bits: clears the upper half. */
  moveValue(to: Reg, value: number): void {
    if (to >= 8) this.#bytes.push(0x41);
    this.#bytes.push(0xb8 + (to & 7));
    this.#word(value);
  }
  load64(to: Reg, from: Memory): void {
    this.#integer(0x8b, to, from);
  }
  store64(to: Memory, from: Reg): void {
    this.#integer(0x89, from, to);
  }
  /** 32 bits, the upper half becomes 0. */
  load32(to: Reg, from: Memory): void {
    this.#integer(0x8b, to, from, false);
  }
  store32(to: Memory, from: Reg): void {
    this.#integer(0x89, from, to, false);
  }
  /** 32 bits: clears the upper half. */
  zeroExtend(r: Reg): void {
    this.#integer(0x89, r, r, false);
  }
  lea(to: Reg, of: Memory): void {
    this.#integer(0x8d, to, of);
  }
  /** The address of a place in the code. */
  leaLabel(to: Reg, of: Label): void {
    this.#bytes.push(0x48 | ((to >> 3) << 2), 0x8d, ((to & 7) << 3) | 5);
    this.#target(of);
  }
  /** Words of 32 bits, as they are. */
  words(values: Uint32Array): void {
    for (const value of values) this.#word(value);
  }
  add(to: Reg, by: Reg | { readonly value: number }): void {
    if (typeof by === "number") this.#integer(0x01, by, to);
    else this.#immediate(0, to, by.value);
  }
  sub(to: Reg, by: Reg | { readonly value: number }): void {
    if (typeof by === "number") this.#integer(0x29, by, to);
    else this.#immediate(5, to, by.value);
  }
  and(to: Reg, value: number): void {
    this.#immediate(4, to, value);
  }
  /** "equal" if none of `bits`, up to 31 of them, is set. */
  test(a: Reg, bits: number): void {
    this.#integer(0xf7, 0, a);
    this.#word(bits);
  }
  compare(a: Reg, b: Reg | { readonly value: number }): void {
    if (typeof b === "number") this.#integer(0x39, b, a);
    else this.#immediate(7, a, b.value);
  }
  /** The low 64 bits of the product. */
  multiply(to: Reg, by: Reg): void {
    this.#bytes.push(0x48 | ((to >> 3) << 2) | (by >> 3), 0x0f, 0xaf, 0xc0 | ((to & 7) << 3) | (by & 7));
  }
  shiftLeft(r: Reg, bits: number): void {
    this.#integer(0xc1, 4, r);
    this.#bytes.push(bits);
  }
  shiftRight(r: Reg, bits: number): void {
    this.#integer(0xc1, 5, r);
    this.#bytes.push(bits);
  }
  jump(to: Label): void {
    this.#bytes.push(0xe9);
    this.#target(to);
  }
  jumpIf(condition: Condition, to: Label): void {
    this.#bytes.push(0x0f, 0x80 + conditionCode[condition]);
    this.#target(to);
  }
  /** Asks for the line at `at`, into all caches. It may lie anywhere. */
  prefetch(at: Memory): void {
    const { x, b } = extension(at);
    if ((x | b) !== 0) this.#bytes.push(0x40 | (x << 1) | b);
    this.#bytes.push(0x0f, 0x18);
    this.#operand(1, at, 1);
  }
  /** `body` for the value that `r` has, and nothing where it has none of these. `body` may use `r`. */
  select(r: Reg, values: readonly number[], body: (value: number) => void): void {
    const end = new Label();
    for (const value of values) {
      const other = new Label();
      this.compare(r, { value });
      this.jumpIf("notEqual", other);
      body(value);
      this.jump(end);
      this.place(other);
    }
    this.place(end);
  }
  cpuid(): void {
    this.#bytes.push(0x0f, 0xa2);
  }
  xgetbv(): void {
    this.#bytes.push(0x0f, 0x01, 0xd0);
  }

  // ---- vectors of floats; a register that is read and written is named as both ----

  /** All lanes of `to` become the float at `from`. */
  broadcast(bits: Bits, to: number, from: Memory): void {
    this.#vector(bits, { map: 2, prefix: 1, opcode: 0x18, unit: 4 }, to, 0, from);
  }
  /** The lowest lane; zeros above. */
  loadFloat(to: number, from: Memory): void {
    this.#vector(128, { map: 1, prefix: 2, opcode: 0x10 }, to, 0, from);
  }
  load(bits: Bits, to: number, from: Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x10 }, to, 0, from);
  }
  store(bits: Bits, to: Memory, from: number): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x11 }, from, 0, to);
  }
  /** The upper half of the 512 bits of `to`; the lower stays. */
  loadUpper(to: number, from: Memory): void {
    this.#vector(512, { map: 3, prefix: 1, opcode: 0x1a, wide: 1, unit: 32, immediate: 1 }, to, to, from);
  }
  /** sum += a * b, rounded once. */
  multiplyAdd(bits: Bits, sum: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 2, prefix: 1, opcode: 0xb8 }, sum, a, b);
  }
  /** to = to * a + b, rounded once. */
  multiplyThenAdd(bits: Bits, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 2, prefix: 1, opcode: 0xa8 }, to, a, b);
  }
  addFloats(bits: Bits, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x58 }, to, a, b);
  }
  subFloats(bits: Bits, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x5c }, to, a, b);
  }
  mulFloats(bits: Bits, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x59 }, to, a, b);
  }
  /** a > b ? a : b; so b where either is no number. */
  maxFloats(bits: Bits, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x5f }, to, a, b);
  }
  /** a < b ? a : b; so b where either is no number. */
  minFloats(bits: Bits, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x5d }, to, a, b);
  }
  /** Up to 256 bits. */
  andBits(bits: 128 | 256, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x54 }, to, a, b);
  }
  orBits(bits: 128 | 256, to: number, a: number, b: number | Memory): void {
    this.#vector(bits, { map: 1, prefix: 0, opcode: 0x56 }, to, a, b);
  }
  addIntegers(bits: Bits, to: number, a: number, b: number): void {
    this.#vector(bits, { map: 1, prefix: 1, opcode: 0xfe }, to, a, b);
  }
  /** Lanes of 32 bits. */
  shiftLanesLeft(bits: 128 | 256, to: number, from: number, by: number): void {
    this.#vector(bits, { map: 1, prefix: 1, opcode: 0x72, immediate: by }, 6, to, from);
  }
  shiftLanesRight(bits: 128 | 256, to: number, from: number, by: number): void {
    this.#vector(bits, { map: 1, prefix: 1, opcode: 0x72, immediate: by }, 2, to, from);
  }
  /** Pairs of neighbours: (a0 + a1, a2 + a3, b0 + b1, b2 + b3). */
  addPairs(to: number, a: number, b: number): void {
    this.#vector(128, { map: 1, prefix: 3, opcode: 0x7c }, to, a, b);
  }
  /** The four lanes of `from` in the order of four fields of 2 bits, the first lane's lowest. */
  permute(to: number, from: number, order: number): void {
    this.#vector(128, { map: 3, prefix: 1, opcode: 0x04, immediate: order }, to, 0, from);
  }
  /** The upper 128 of 256 bits. */
  upperHalf(to: number, from: number): void {
    this.#vector(256, { map: 3, prefix: 1, opcode: 0x19, immediate: 1 }, from, 0, to);
  }
  // The two halves of 256 bits apart in each of these.
  interleaveLow(to: number, a: number, b: number): void {
    this.#vector(256, { map: 1, prefix: 0, opcode: 0x14 }, to, a, b);
  }
  interleaveHigh(to: number, a: number, b: number): void {
    this.#vector(256, { map: 1, prefix: 0, opcode: 0x15 }, to, a, b);
  }
  /** Two lanes of a, then two of b, as four fields of 2 bits say. */
  shuffle(to: number, a: number, b: number, lanes: number): void {
    this.#vector(256, { map: 1, prefix: 0, opcode: 0xc6, immediate: lanes }, to, a, b);
  }
  /** The upper 128 of 256 bits; the lower are those of `a`. */
  insertUpper(to: number, a: number, from: Memory): void {
    this.#vector(256, { map: 3, prefix: 1, opcode: 0x18, immediate: 1 }, to, a, from);
  }
  /** 64 bits, zeros above. */
  load64Bits(to: number, from: Memory): void {
    this.#vector(128, { map: 1, prefix: 3, opcode: 0x10 }, to, 0, from);
  }
  /** The upper 64 of 128 bits; the lower are those of `a`. */
  insertUpper64(to: number, a: number, from: Memory): void {
    this.#vector(128, { map: 1, prefix: 0, opcode: 0x16 }, to, a, from);
  }
  /** Eight f16 to floats. */
  fromHalves(to: number, from: number): void {
    this.#vector(256, { map: 2, prefix: 1, opcode: 0x13 }, to, 0, from);
  }
  /** Eight words of 16 bits to words of 32. */
  widen(to: number, from: number): void {
    this.#vector(256, { map: 2, prefix: 1, opcode: 0x33 }, to, 0, from);
  }
  /** The lowest lane alone. */
  storeFloat(to: Memory, from: number): void {
    this.#vector(128, { map: 1, prefix: 2, opcode: 0x11 }, from, 0, to);
  }
  /** All bits 0: the whole register, up to its 512. */
  zero(to: number): void {
    if (to < 16) this.#vector(128, { map: 1, prefix: 0, opcode: 0x57 }, to, to, to);
    else this.#vector(512, { map: 1, prefix: 1, opcode: 0xef }, to, to, to);
  }
  vzeroupper(): void {
    this.#bytes.push(0xc5, 0xf8, 0x77);
  }

  // ---- encoding ----

  #integer(opcode: number, reg: number, rm: Reg | Memory, wide = true): void {
    const { x, b } = extension(rm);
    const rex = 0x40 | (wide ? 8 : 0) | ((reg >> 3) << 2) | (x << 1) | b;
    if (rex !== 0x40) this.#bytes.push(rex);
    this.#bytes.push(opcode);
    this.#operand(reg, rm, 1);
  }
  #immediate(operation: number, to: Reg, value: number): void {
    this.#integer(0x81, operation, to);
    this.#word(value);
  }

  #vector(bits: Bits, opcode: Opcode, reg: number, second: number, rm: number | Memory): void {
    const high = reg >= 16 || second >= 16 || (typeof rm === "number" && rm >= 16);
    if (bits === 512 || high) this.#evex(bits, opcode, reg, second, rm);
    else this.#vex(bits, opcode, reg, second, rm);
    if (opcode.immediate !== undefined) this.#bytes.push(opcode.immediate);
  }
  #vex(bits: Bits, { map, prefix, opcode, wide = 0 }: Opcode, reg: number, second: number, rm: number | Memory): void {
    const { x, b } = extension(rm);
    this.#bytes.push(0xc4, (((~reg >> 3) & 1) << 7) | ((x ^ 1) << 6) | ((b ^ 1) << 5) | map);
    this.#bytes.push((wide << 7) | ((~second & 15) << 3) | (lengthBits[bits] << 2) | prefix, opcode);
    this.#operand(reg, rm, 1);
  }
  #evex(bits: Bits, { map, prefix, opcode, wide = 0, unit = bits / 8 }: Opcode, reg: number, second: number, rm: number | Memory): void {
    // of a register in rm, bit 4 is where the index' bit would be
    const { x, b } = typeof rm === "number" ? { x: rm >> 4, b: (rm >> 3) & 1 } : extension(rm);
    this.#bytes.push(0x62, (((~reg >> 3) & 1) << 7) | ((x ^ 1) << 6) | ((b ^ 1) << 5) | (((~reg >> 4) & 1) << 4) | map);
    this.#bytes.push((wide << 7) | ((~second & 15) << 3) | 4 | prefix, (lengthBits[bits] << 5) | (((~second >> 4) & 1) << 3), opcode);
    this.#operand(reg, rm, unit);
  }
  #operand(reg: number, rm: number | Memory, unit: number): void {
    const field = (reg & 7) << 3;
    if (typeof rm === "number") {
      this.#bytes.push(0xc0 | field | (rm & 7));
      return;
    }
    // a displacement of 8 bits, in units, or of 32; a SIB byte where there is an index, or where the base's number stands for one
    const at = rm.at ?? 0,
      units = at / unit,
      short = Number.isInteger(units) && units >= -128 && units < 128,
      mode = short ? 0x40 : 0x80;
    if (rm.index === undefined && (rm.base & 7) !== 4) this.#bytes.push(mode | field | (rm.base & 7));
    else this.#bytes.push(mode | field | 4, (scaleBits[rm.scale ?? 1] << 6) | (((rm.index ?? 4) & 7) << 3) | (rm.base & 7));
    if (short) this.#bytes.push(units & 255);
    else this.#word(at);
  }
  #word(value: number): void {
    this.#bytes.push(value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255);
  }
  #target(label: Label): void {
    this.#word(0);
    if (label.at >= 0) this.#patch(this.#bytes.length, label.at);
    else label.waiting.push(this.#bytes.length);
  }
  #patch(end: number, target: number): void {
    const distance = target - end;
    for (let i = 0; i < 4; i++) this.#bytes[end - 4 + i] = (distance >> (8 * i)) & 255;
  }
}

function extension(rm: number | Memory): { x: number; b: number } {
  return typeof rm === "number" ? { x: 0, b: rm >> 3 } : { x: (rm.index ?? 0) >> 3, b: rm.base >> 3 };
}
