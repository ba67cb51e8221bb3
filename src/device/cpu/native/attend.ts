/** Machine code of `attendBlock` of kernels/wasm/lib/attention_tile.ts. */
import { Label, Reg } from "./assembler.ts";
import { Code, PLAIN, ROW, a, aRow, b, cRow, common, constant, keysAt, ldb, other, some } from "./attention-code.ts";
import type { Abi } from "./calling.ts";
import type { VectorSet } from "./products.ts";

// The call block: addresses in the WASM memory, and numbers.
const forward = { ...common, fewest: 16, q: 20, s: 24, o: 28, m: 32, l: 36, kT: 40, v: 44, ldv: 48 };

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
  const words = [
    [m, forward.m],
    [l, forward.l],
  ] as const;
  code.eachRow(forward.s, forward.o, words, (next) => {
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
    code.lanes(128, left, mask, fill);
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
  });
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
