/**
 * Machine code of kernels/wasm/attention_backward.ts: a tile's weights and slopes, and what they add to dk and dv, to dq, or to all.
 */
import { Label, Reg } from "./assembler.ts";
import { Code, KEY_ROW, PLAIN, ROW, TRANSPOSED, aRow, cRow, common, keysAt, ldb, other, rowsLeft, some } from "./attention-code.ts";
import type { Abi } from "./calling.ts";
import type { VectorSet } from "./products.ts";

// The call block: addresses in the WASM memory, and numbers.
const backward = {
  ...{ ...common, keys: 16, parts: 20, q: 24, dout: 28, p: 32, ds: 36, dq: 40, lse: 44, delta: 48 },
  ...{ kT: 52, vT: 56, dk: 60, dv: 64, keyRows: 68, keyPitch: 72 },
};
/** Bits of `parts`. */
const ADD_KEYS = 1,
  ADD_QUERIES = 2;

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
  const eights = new Label(),
    rest = new Label(),
    zeros = new Label(),
    blank = new Label();
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
  const words = [
    [lse, backward.lse],
    [delta, backward.delta],
  ] as const;
  code.eachRow(backward.p, backward.ds, words, (next) => {
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
    code.lanes(256, left, mask);
    weigh();
    x.andBits(256, weight, weight, mask);
    x.andBits(256, slope, slope, mask);
    store();
    x.place(zeros);
    x.zero(weight);
    x.zero(slope);
    x.place(blank);
    x.compare(p, end);
    x.jumpIf("aboveOrEqual", next);
    store();
    x.jump(blank);
  });
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
