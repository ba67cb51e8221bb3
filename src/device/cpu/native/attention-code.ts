/**
 * What the machine code of attention, forward (attend.ts) and backward (attend-backward.ts), is made of: loops over a tile's rows, products
 * of them, e^x. Each works on one tile against one block of 64 keys, and computes every element by the same chain of operations as the
 * relaxed build, lane by lane, so with the same bits.
 *
 * Rows of a tile lie ROW bytes apart. Products take 4, 2 or 1 of them by two vectors; what is past the last column is computed too, in room
 * that is there for it.
 */
import { Assembler, Label, Reg, type Bits, type Memory } from "./assembler.ts";
import { enter, leave, type Abi } from "./calling.ts";
import type { VectorSet } from "./products.ts";

/** STRIDE and KT_STRIDE of kernels/wasm/lib/attention_tile.ts, in bytes. */
export const ROW = 512,
  KEY_ROW = 256;

// Words of the call blocks, in bytes. Addresses are in the WASM memory; the rest are numbers.
export const common = { rows: 0, D: 4, n: 8, row: 12 };
// What every part keeps: the memory, the call block and the constants.
export const memory = Reg.rdi,
  args = Reg.rsi,
  constants = Reg.r15;
// A product's: A, its end, B, the bytes between B's rows, C.
export const a = Reg.rax,
  aEnd = Reg.rbp,
  b = Reg.rbx,
  ldb = Reg.rcx,
  c = Reg.rdx;
// A loop over rows: where the row's number of keys lies, and the rows left; over columns: bytes done, or units of 8 left. The word `row` of
// the call block holds the bytes to the loop's row, or a number of keys.
export const keysAt = Reg.r8,
  rowsLeft = Reg.r9,
  column = Reg.r12,
  units = Reg.r12;
export const some = Reg.r10,
  other = Reg.r11,
  aRow = Reg.r13,
  cRow = Reg.r14;

// ---- constants ----

const floats = (...values: readonly number[]): number[] => [...new Uint32Array(Float32Array.from(values).buffer)];
const eight = (value: number): number[] => floats(...Array.from({ length: 8 }, () => value));
/** kernels/wasm/lib/math.ts, exp4: bounds, 1 / ln 2, the magic number that rounds, ln 2 in two parts, the polynomial. */
const names = ["low", "high", "log2e", "magic", "ln2", "ln2Rest", "p0", "p1", "p2", "p3", "p4", "p5", "one", "none"] as const;
const values = [
  ...[-87.3365447505531, 88.3762626647949, 1.44269504088896341, 12582912, -0.693359375, 2.1219444e-4],
  ...[1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, -Infinity],
];
const WINDOW = names.length * 32;
const FILL = WINDOW + 64;
const table = Uint32Array.from([
  ...values.flatMap(eight),
  // from 8 - n words on: n lanes of ones, then zeros
  ...Array.from({ length: 16 }, (_, i) => (i < 8 ? 0xffffffff : 0)),
  // from 4 - n words on: n zeros, then minus infinity
  ...[0, 0, 0, 0, ...floats(-Infinity, -Infinity, -Infinity, -Infinity)],
]);
export function constant(name: (typeof names)[number]): Memory {
  return { base: constants, at: 32 * names.indexOf(name) };
}

// ---- pieces ----

export class Code {
  readonly x = new Assembler();
  readonly set: VectorSet;
  readonly #table = new Label();
  readonly #abi: Abi;

  constructor(set: VectorSet, abi: Abi) {
    this.set = set;
    this.#abi = abi;
    enter(this.x, abi);
    this.x.leaLabel(constants, this.#table);
  }

  finish(): Uint8Array {
    leave(this.x, this.#abi);
    this.x.align(64);
    this.x.place(this.#table);
    this.x.words(table);
    return this.x.code();
  }

  /** A word of the call block. */
  word(to: Reg, at: number): void {
    this.x.load32(to, { base: args, at });
  }
  /** An address of the call block. */
  address(to: Reg, at: number): void {
    this.word(to, at);
    this.x.add(to, memory);
  }

  /** An address of the call block, moved on to the loop's row. `other` is lost. */
  rowAddress(to: Reg, at: number): void {
    this.address(to, at);
    this.word(other, common.row);
    this.x.add(to, other);
  }
  put(at: number, from: Reg): void {
    this.x.store32({ base: args, at }, from);
  }

  /** Runs `body` for groups of 4 rows, then of 2 and 1. keysAt, rowsLeft and the word `row` are this loop's. */
  groups(body: (rows: number) => void): void {
    const { x } = this;
    this.address(keysAt, common.n);
    this.word(rowsLeft, common.rows);
    x.moveValue(some, 0);
    this.put(common.row, some);
    for (const rows of [4, 2, 1]) {
      const again = new Label(),
        fewer = new Label();
      x.place(again);
      x.compare(rowsLeft, { value: rows });
      x.jumpIf("below", fewer);
      body(rows);
      x.add(keysAt, { value: 4 * rows });
      x.sub(rowsLeft, { value: rows });
      this.word(some, common.row);
      x.add(some, { value: ROW * rows });
      this.put(common.row, some);
      x.jump(again);
      x.place(fewer);
    }
  }

  /** Runs `body` for every row, `aRow`, `cRow` and some words' addresses moving on with it; it may go to its label to be done with a row. */
  eachRow(A: number, C: number, words: readonly (readonly [to: Reg, at: number])[], body: (next: Label) => void): void {
    const { x } = this;
    const again = new Label(),
      next = new Label(),
      done = new Label();
    this.address(keysAt, common.n);
    this.word(rowsLeft, common.rows);
    this.address(aRow, A);
    this.address(cRow, C);
    for (const [register, at] of words) this.address(register, at);
    x.place(again);
    x.compare(rowsLeft, { value: 0 });
    x.jumpIf("equal", done);
    body(next);
    x.place(next);
    x.add(aRow, { value: ROW });
    x.add(cRow, { value: ROW });
    for (const [register] of words) x.add(register, { value: 4 });
    x.add(keysAt, { value: 4 });
    x.sub(rowsLeft, { value: 1 });
    x.jump(again);
    x.place(done);
  }

  /** `to` becomes the most or the fewest keys that the group's rows see. `other` is lost. */
  keysSeen(to: Reg, rows: number, which: "most" | "fewest"): void {
    const { x } = this;
    x.load32(to, { base: keysAt });
    for (let i = 1; i < rows; i++) {
      const kept = new Label();
      x.load32(other, { base: keysAt, at: 4 * i });
      x.compare(other, to);
      x.jumpIf(which === "most" ? "belowOrEqual" : "aboveOrEqual", kept);
      x.move(to, other);
      x.place(kept);
    }
  }

  /**
   * C[rows x vectors] (+)= A B, from a to aEnd, b and c on. Rows of A and of C lie `aRows` and ROW bytes apart, A's next k `aStep` bytes on.
   * Nothing is done where a is aEnd and C is not fresh.
   */
  product({ rows, vectors, bits, fresh, aRows, aStep }: Tile): void {
    const { x } = this;
    const bytes = bits / 8;
    const sum = (i: number, j: number): number => i * vectors + j;
    const free = rows * vectors;
    const at = (i: number, j: number): Memory => ({ base: c, at: ROW * i + bytes * j });
    const each = (body: (i: number, j: number) => void): void => {
      for (let i = 0; i < rows; i++) for (let j = 0; j < vectors; j++) body(i, j);
    };
    const loop = new Label(),
      done = new Label();
    each((i, j) => {
      if (fresh) x.zero(sum(i, j));
      else x.load(bits, sum(i, j), at(i, j));
    });
    x.compare(a, aEnd);
    x.jumpIf("aboveOrEqual", done);
    x.place(loop);
    for (let j = 0; j < vectors; j++) x.load(bits, free + j, { base: b, at: bytes * j });
    for (let i = 0; i < rows; i++) {
      x.broadcast(bits, free + vectors, { base: a, at: aRows * i });
      for (let j = 0; j < vectors; j++) x.multiplyAdd(bits, sum(i, j), free + vectors, free + j);
    }
    x.add(b, ldb);
    x.add(a, { value: aStep });
    x.compare(a, aEnd);
    x.jumpIf("below", loop);
    x.place(done);
    each((i, j) => x.store(bits, at(i, j), sum(i, j)));
  }

  /**
   * C[rows x D] += A B for all columns, in units of 8, from aRow, `some` (B) and cRow on; `other` bytes of A are the way to its end. All but
   * aRow end up elsewhere.
   */
  allColumns(rows: number, layout: Pick<Tile, "aRows" | "aStep">): void {
    const { x } = this;
    x.add(other, aRow);
    this.word(units, common.D);
    x.add(units, { value: 7 });
    x.shiftRight(units, 3);
    const list: readonly (readonly [bits: Bits, vectors: number])[] =
      this.set === "AVX2"
        ? [
            [256, 2],
            [256, 1],
          ]
        : [
            [512, 2],
            [512, 1],
            [256, 1],
          ];
    for (const [bits, vectors] of list) {
      const again = new Label(),
        fewer = new Label();
      const width = (vectors * bits) / 256;
      x.place(again);
      x.compare(units, { value: width });
      x.jumpIf("below", fewer);
      x.move(a, aRow);
      x.move(aEnd, other);
      x.move(b, some);
      x.move(c, cRow);
      this.product({ rows, vectors, bits, fresh: false, ...layout });
      x.add(some, { value: 32 * width });
      x.add(cRow, { value: 32 * width });
      x.sub(units, { value: width });
      x.jump(again);
      x.place(fewer);
    }
  }

  /** Scores of a group: C[rows x keys] = A kT, D deep, for the most keys that a row sees. */
  scores(rows: number, AAt: number, kTAt: number, CAt: number): void {
    const { x, set } = this;
    const keys = some;
    this.rowAddress(aRow, AAt);
    this.rowAddress(cRow, CAt);
    this.keysSeen(keys, rows, "most");
    const bits = set === "AVX2" ? 256 : 512;
    const again = new Label(),
      done = new Label();
    x.shiftLeft(keys, 2);
    x.moveValue(column, 0);
    x.moveValue(ldb, KEY_ROW);
    x.place(again);
    x.compare(column, keys);
    x.jumpIf("aboveOrEqual", done);
    x.move(a, aRow);
    this.word(aEnd, common.D);
    x.lea(aEnd, { base: a, index: aEnd, scale: 4 });
    this.address(b, kTAt);
    x.add(b, column);
    x.move(c, cRow);
    x.add(c, column);
    this.product({ rows, vectors: 2, bits, fresh: true, aRows: ROW, aStep: 4 });
    x.add(column, { value: (2 * bits) / 8 });
    x.jump(again);
    x.place(done);
  }

  /** exp4 of kernels/wasm/lib/math.ts: `to` = e^`to`; t, u, v are lost. */
  exp(bits: 128 | 256, to: number, t: number, u: number, v: number): void {
    const { x } = this;
    x.minFloats(bits, to, to, constant("high"));
    x.maxFloats(bits, to, to, constant("low"));
    x.mulFloats(bits, t, to, constant("log2e"));
    x.addFloats(bits, t, t, constant("magic"));
    x.subFloats(bits, u, t, constant("magic"));
    x.multiplyAdd(bits, to, u, constant("ln2"));
    x.multiplyAdd(bits, to, u, constant("ln2Rest"));
    x.load(bits, v, constant("p0"));
    for (const name of ["p1", "p2", "p3", "p4", "p5"] as const) x.multiplyThenAdd(bits, v, to, constant(name));
    x.mulFloats(bits, u, to, to);
    x.multiplyThenAdd(bits, v, u, to);
    x.addFloats(bits, v, v, constant("one"));
    x.shiftLanesLeft(bits, t, t, 23);
    x.addIntegers(bits, to, v, t);
  }

  /** `mask`: ones in the first `left` lanes, fewer than 8. `fill`, of 128 bits: minus infinity from there on. `other` is lost. */
  lanes(bits: 128 | 256, left: Reg, mask: number, fill?: number): void {
    const { x } = this;
    x.moveValue(other, 8);
    x.sub(other, left);
    x.load(bits, mask, { base: constants, index: other, scale: 4, at: WINDOW });
    if (fill !== undefined) x.load(128, fill, { base: constants, index: other, scale: 4, at: FILL - 16 });
  }

  /** `body` for steps of 8 floats as long as that many of `left` remain, then once for 4; it moves its pointer on. `left` ends below 4. */
  eightsAndFour(left: Reg, body: (bits: 128 | 256) => void): void {
    const { x } = this;
    const again = new Label(),
      four = new Label(),
      done = new Label();
    x.place(again);
    x.compare(left, { value: 8 });
    x.jumpIf("below", four);
    body(256);
    x.sub(left, { value: 8 });
    x.jump(again);
    x.place(four);
    x.compare(left, { value: 4 });
    x.jumpIf("below", done);
    body(128);
    x.sub(left, { value: 4 });
    x.place(done);
  }
}

interface Tile {
  readonly rows: number;
  readonly vectors: number;
  readonly bits: Bits;
  readonly fresh: boolean;
  readonly aRows: number;
  readonly aStep: number;
}
export const PLAIN = { aRows: ROW, aStep: 4 };
/** A is read down its columns: C's row i is its column i. */
export const TRANSPOSED = { aRows: 4, aStep: ROW };
