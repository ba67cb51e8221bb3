/**
 * Machine code for one tile of attention against one block of 64 keys: `attendBlock` of kernels/wasm/lib/attention_tile.ts, and of
 * kernels/wasm/attention_backward.ts the weights of a tile with what they add to dq, dk and dv. Every element is the same chain of
 * operations as in the relaxed build, lane by lane, so it has the same bits.
 *
 * Rows of a tile lie ROW bytes apart. Products take 4, 2 or 1 of them by two vectors; what is past the last column is computed too, in room
 * that is there for it.
 */
import { Assembler, Label, Reg, type Bits, type Memory } from "./assembler.ts";
import { enter, leave, type Abi } from "./calling.ts";
import type { VectorSet } from "./products.ts";

/** STRIDE and KT_STRIDE of kernels/wasm/lib/attention_tile.ts, in bytes. */
const ROW = 512,
  KEY_ROW = 256;

// Words of the call blocks, in bytes. Addresses are in the WASM memory; the rest are numbers.
const common = { rows: 0, D: 4, n: 8, row: 12 };
const forward = { ...common, fewest: 16, q: 20, s: 24, o: 28, m: 32, l: 36, kT: 40, v: 44, ldv: 48 };
const backward = {
  ...{ ...common, keys: 16, parts: 20, q: 24, dout: 28, p: 32, ds: 36, dq: 40, lse: 44, delta: 48 },
  ...{ kT: 52, vT: 56, dk: 60, dv: 64, keyRows: 68, keyPitch: 72 },
};
/** Bits of `parts`. */
const ADD_KEYS = 1,
  ADD_QUERIES = 2;

// What every part keeps: the memory, the call block and the constants.
const memory = Reg.rdi,
  args = Reg.rsi,
  constants = Reg.r15;
// A product's: A, its end, B, the bytes between B's rows, C.
const a = Reg.rax,
  aEnd = Reg.rbp,
  b = Reg.rbx,
  ldb = Reg.rcx,
  c = Reg.rdx;
// A loop over rows: where the row's number of keys lies, and the rows left; over columns: bytes done, or units of 8 left. The word `row` of
// the call block holds the bytes to the loop's row, or a number of keys.
const keysAt = Reg.r8,
  rowsLeft = Reg.r9,
  column = Reg.r12,
  units = Reg.r12;
const some = Reg.r10,
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
function constant(name: (typeof names)[number]): Memory {
  return { base: constants, at: 32 * names.indexOf(name) };
}

// ---- pieces ----

class Code {
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
const PLAIN = { aRows: ROW, aStep: 4 };
/** A is read down its columns: C's row i is its column i. */
const TRANSPOSED = { aRows: 4, aStep: ROW };

// ---- forward ----

/** Code of `attendBlock`. */
export function attendCode(set: VectorSet, abi: Abi): Uint8Array {
  const code = new Code(set, abi);
  code.groups((rows) => code.scores(rows, forward.q, forward.kT, forward.s));
  softmaxRows(code);
  code.groups((rows) => outputs(code, rows));
  return code.finish();
}

/** `softmaxRow` of every row that sees a key. */
function softmaxRows(code: Code): void {
  const { x } = code;
  const p = Reg.rax,
    left = Reg.rbx,
    l = Reg.rcx,
    m = Reg.rdx,
    n = some,
    oldBits = Reg.r12,
    s = aRow,
    o = cRow;
  const again = new Label(),
    next = new Label(),
    done = new Label();
  code.address(keysAt, forward.n);
  code.word(rowsLeft, forward.rows);
  code.address(s, forward.s);
  code.address(o, forward.o);
  code.address(m, forward.m);
  code.address(l, forward.l);
  x.place(again);
  x.compare(rowsLeft, { value: 0 });
  x.jumpIf("equal", done);
  x.load32(n, { base: keysAt });
  x.compare(n, { value: 0 });
  x.jumpIf("equal", next);

  // the largest score: 0 holds eights, 2 the rest
  const [mask, fill] = [9, 11];
  x.load(256, 0, constant("none"));
  x.load(128, 2, constant("none"));
  x.move(p, s);
  x.move(left, n);
  code.eightsAndFour(left, (bits) => {
    const top = bits === 256 ? 0 : 2;
    x.load(bits, 1, { base: p });
    x.maxFloats(bits, top, 1, top);
    x.add(p, { value: bits / 8 });
  });
  x.moveValue(other, 8);
  x.sub(other, left);
  x.load(128, mask, { base: constants, index: other, scale: 4, at: WINDOW });
  x.load(128, fill, { base: constants, index: other, scale: 4, at: FILL - 16 });
  x.andBits(128, 1, mask, { base: p });
  x.orBits(128, 1, 1, fill);
  x.maxFloats(128, 2, 1, 2);
  x.upperHalf(3, 0);
  x.maxFloats(128, 0, 3, 0);
  x.maxFloats(128, 0, 2, 0);
  for (const order of [0b01001110, 0b10110001]) {
    x.permute(1, 0, order);
    x.maxFloats(128, 0, 1, 0);
  }
  const [old, shift, sum, check, weight] = [4, 5, 6, 7, 10];
  x.load32(oldBits, { base: m });
  x.broadcast(128, old, { base: m });
  x.maxFloats(128, 0, old, 0);
  x.storeFloat({ base: m }, 0);
  x.broadcast(256, shift, { base: m });

  // weights and their sum, in four lanes by key modulo 4
  x.zero(sum);
  x.zero(check);
  x.move(p, s);
  x.move(left, n);
  const add = (bits: 128 | 256, to: number, from: number): void => {
    x.addFloats(128, to, to, from);
    if (bits === 128) return;
    x.upperHalf(2, from);
    x.addFloats(128, to, to, 2);
  };
  code.eightsAndFour(left, (bits) => {
    x.load(bits, 0, { base: p });
    x.subFloats(bits, 0, 0, shift);
    add(bits, check, 0);
    code.exp(bits, 0, 1, 2, 3);
    add(bits, sum, 0);
    x.store(bits, { base: p }, 0);
    x.add(p, { value: bits / 8 });
  });
  const whole = new Label();
  x.compare(left, { value: 0 });
  x.jumpIf("equal", whole);
  x.load(128, 0, { base: p });
  x.subFloats(128, 0, 0, shift);
  x.andBits(128, 0, 0, mask);
  add(128, check, 0);
  code.exp(128, 0, 1, 2, 3);
  x.andBits(128, 0, 0, mask);
  add(128, sum, 0);
  x.store(128, { base: p }, 0);
  x.place(whole);

  // what there was moves to the new maximum
  const kept = new Label(),
    loop = new Label();
  x.broadcast(128, weight, { base: l });
  x.load32(left, { base: m });
  x.compare(left, oldBits);
  x.jumpIf("equal", kept);
  x.load32(left, { base: l });
  x.compare(left, { value: 0 });
  x.jumpIf("equal", kept);
  x.subFloats(128, 0, old, shift);
  code.exp(128, 0, 1, 2, 3);
  x.mulFloats(128, weight, weight, 0);
  x.storeFloat({ base: l }, 0);
  x.broadcast(256, 0, { base: l });
  x.move(p, o);
  code.word(left, forward.D);
  x.lea(left, { base: o, index: left, scale: 4 });
  x.place(loop);
  x.mulFloats(256, 1, 0, { base: p });
  x.store(256, { base: p }, 1);
  x.add(p, { value: 32 });
  x.compare(p, left);
  x.jumpIf("below", loop);
  x.place(kept);

  for (const lanes of [sum, check]) for (let i = 0; i < 2; i++) x.addPairs(lanes, lanes, lanes);
  x.subFloats(128, check, check, check);
  x.addFloats(128, weight, weight, sum);
  x.addFloats(128, weight, weight, check);
  x.storeFloat({ base: l }, weight);

  x.place(next);
  x.add(s, { value: ROW });
  x.add(o, { value: ROW });
  x.add(m, { value: 4 });
  x.add(l, { value: 4 });
  x.add(keysAt, { value: 4 });
  x.sub(rowsLeft, { value: 1 });
  x.jump(again);
  x.place(done);
}

/** o += p v for a group: the keys that all of its rows see together, then each row's own. */
function outputs(code: Code, rows: number): void {
  const { x } = code;
  const none = new Label();
  code.keysSeen(some, rows, "fewest");
  code.put(forward.fewest, some);
  x.compare(some, { value: 0 });
  x.jumpIf("equal", none);
  code.rowAddress(aRow, forward.s);
  code.rowAddress(cRow, forward.o);
  x.move(other, some);
  x.shiftLeft(other, 2);
  code.address(some, forward.v);
  code.word(ldb, forward.ldv);
  code.allColumns(rows, PLAIN);
  x.place(none);
  if (rows === 1) return;
  for (let i = 0; i < rows; i++) {
    const noMore = new Label();
    x.load32(a, { base: keysAt, at: 4 * i });
    code.word(b, forward.fewest);
    x.compare(a, b);
    x.jumpIf("belowOrEqual", noMore);
    code.rowAddress(aRow, forward.s);
    x.lea(aRow, { base: aRow, index: b, scale: 4, at: ROW * i });
    code.rowAddress(cRow, forward.o);
    x.add(cRow, { value: ROW * i });
    code.word(ldb, forward.ldv);
    code.address(some, forward.v);
    x.move(other, b);
    x.multiply(other, ldb);
    x.add(some, other);
    x.move(other, a);
    x.sub(other, b);
    x.shiftLeft(other, 2);
    code.allColumns(1, PLAIN);
    x.place(noMore);
  }
}

// ---- backward ----

/** Code of `weigh`, and as `parts` says of `addKeys` and `addQueries`. */
export function attendBackwardCode(set: VectorSet, abi: Abi): Uint8Array {
  const code = new Code(set, abi);
  const { x } = code;
  code.groups((rows) => {
    code.scores(rows, backward.q, backward.kT, backward.p);
    code.scores(rows, backward.dout, backward.vT, backward.ds);
  });
  weights(code);
  for (const [part, add] of [
    [ADD_KEYS, addKeys],
    [ADD_QUERIES, addQueries],
  ] as const) {
    const not = new Label();
    code.word(some, backward.parts);
    x.and(some, part);
    x.compare(some, { value: 0 });
    x.jumpIf("equal", not);
    add(code);
    x.place(not);
  }
  return code.finish();
}

/** p = e^(s - lse) and ds = p (ds - delta) of every row, zero from the keys on that it does not see. */
function weights(code: Code): void {
  const { x } = code;
  const p = Reg.rax,
    left = Reg.rbx,
    delta = Reg.rcx,
    lse = Reg.rdx,
    ds = Reg.rbp,
    end = Reg.r12;
  const again = new Label(),
    eights = new Label(),
    rest = new Label(),
    zeros = new Label(),
    next = new Label(),
    done = new Label();
  code.address(keysAt, backward.n);
  code.word(rowsLeft, backward.rows);
  code.address(aRow, backward.p);
  code.address(cRow, backward.ds);
  code.address(lse, backward.lse);
  code.address(delta, backward.delta);
  const [weight, slope, mask, rowLse, rowDelta] = [0, 4, 5, 6, 7];
  const weigh = (): void => {
    x.load(256, weight, { base: p });
    x.subFloats(256, weight, weight, rowLse);
    code.exp(256, weight, 1, 2, 3);
    x.load(256, slope, { base: ds });
    x.subFloats(256, slope, slope, rowDelta);
    x.mulFloats(256, slope, slope, weight);
  };
  const store = (): void => {
    x.store(256, { base: p }, weight);
    x.store(256, { base: ds }, slope);
    x.add(p, { value: 32 });
    x.add(ds, { value: 32 });
  };
  x.place(again);
  x.compare(rowsLeft, { value: 0 });
  x.jumpIf("equal", done);
  x.broadcast(256, rowLse, { base: lse });
  x.broadcast(256, rowDelta, { base: delta });
  x.move(p, aRow);
  x.move(ds, cRow);
  x.lea(end, { base: p, at: KEY_ROW });
  x.load32(left, { base: keysAt });
  x.place(eights);
  x.compare(left, { value: 8 });
  x.jumpIf("below", rest);
  weigh();
  store();
  x.sub(left, { value: 8 });
  x.jump(eights);
  x.place(rest);
  x.compare(left, { value: 0 });
  x.jumpIf("equal", zeros);
  x.moveValue(other, 8);
  x.sub(other, left);
  x.load(256, mask, { base: constants, index: other, scale: 4, at: WINDOW });
  weigh();
  x.andBits(256, weight, weight, mask);
  x.andBits(256, slope, slope, mask);
  store();
  x.place(zeros);
  x.zero(weight);
  x.zero(slope);
  const again2 = new Label();
  x.place(again2);
  x.compare(p, end);
  x.jumpIf("aboveOrEqual", next);
  store();
  x.jump(again2);
  x.place(next);
  x.add(aRow, { value: ROW });
  x.add(cRow, { value: ROW });
  x.add(lse, { value: 4 });
  x.add(delta, { value: 4 });
  x.add(keysAt, { value: 4 });
  x.sub(rowsLeft, { value: 1 });
  x.jump(again);
  x.place(done);
}

/** dv += p^T dout and dk += ds^T q, for four keys at a time from the first row on that sees one of them. */
function addKeys(code: Code): void {
  const { x } = code;
  const again = new Label(),
    walk = new Label(),
    found = new Label(),
    done = new Label();
  code.address(keysAt, backward.n);
  code.word(rowsLeft, backward.rows);
  x.moveValue(some, 0);
  code.put(backward.row, some);
  x.place(again);
  code.word(some, backward.row);
  code.word(other, backward.keys);
  x.compare(some, other);
  x.jumpIf("aboveOrEqual", done);
  x.place(walk);
  x.compare(rowsLeft, { value: 0 });
  x.jumpIf("equal", done);
  x.load32(other, { base: keysAt });
  x.compare(other, some);
  x.jumpIf("above", found);
  x.add(keysAt, { value: 4 });
  x.sub(rowsLeft, { value: 1 });
  x.jump(walk);
  x.place(found);
  for (const [A, B, C] of [
    [backward.p, backward.dout, backward.dv],
    [backward.ds, backward.q, backward.dk],
  ] as const) {
    const first = Reg.rbx,
      key = Reg.rcx;
    code.word(first, backward.rows);
    x.sub(first, rowsLeft);
    x.shiftLeft(first, Math.log2(ROW));
    code.word(key, backward.row);
    code.address(aRow, A);
    x.add(aRow, first);
    x.lea(aRow, { base: aRow, index: key, scale: 4 });
    code.address(some, B);
    x.add(some, first);
    code.address(cRow, C);
    x.shiftLeft(key, Math.log2(ROW));
    x.add(cRow, key);
    x.move(other, rowsLeft);
    x.shiftLeft(other, Math.log2(ROW));
    x.moveValue(ldb, ROW);
    code.allColumns(4, TRANSPOSED);
  }
  code.word(some, backward.row);
  x.add(some, { value: 4 });
  code.put(backward.row, some);
  x.jump(again);
  x.place(done);
}

/** dq += ds k, for the most keys that a row of the group sees. */
function addQueries(code: Code): void {
  const { x } = code;
  code.groups((rows) => {
    const none = new Label();
    code.keysSeen(some, rows, "most");
    x.compare(some, { value: 0 });
    x.jumpIf("equal", none);
    code.rowAddress(aRow, backward.ds);
    code.rowAddress(cRow, backward.dq);
    x.move(other, some);
    x.shiftLeft(other, 2);
    code.address(some, backward.keyRows);
    code.word(ldb, backward.keyPitch);
    code.allColumns(rows, PLAIN);
    x.place(none);
  });
}
