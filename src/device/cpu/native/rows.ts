/**
 * Machine code for a product of few rows with bf16 weights that are stored by their outputs: C[rows x N] (+)= A B^T, B [N, K] read as it lies,
 * once. What a decode step of a large model waits for is its memory; panels of floats would be twice the bytes.
 *
 * Every element is the chain of kernels/wasm/lib/gemm.ts: chunks of 256 in K, each summed from 0 in the order of k, added in order. Eight outputs
 * are the lanes of a vector: 8 rows of 4 words are transposed, and a word holds the weights of two k's.
 */
import { Assembler, Label, Reg } from "./assembler.ts";
import { enter, leave, type Abi } from "./calling.ts";

/** The call block. `a` is packed [K][rows]; K is a multiple of 8; `panels` of 8 outputs; `add`: C has its first summand already. */
const block = { a: 0, b: 4, c: 8, ldc: 12, K: 16, pitch: 20, panels: 24, rows: 28, add: 32, adds: 36 };
/** KC of kernels/wasm/lib/pack.ts. */
const CHUNK = 256;
/** MOST_ROWS of kernels/wasm/matmul.ts. */
const mostRows = 4;

const args = Reg.rsi,
  memory = Reg.r15,
  a = Reg.rax,
  pitch = Reg.rdx,
  pitch3 = Reg.r8,
  left = Reg.r9, // k's of this chunk; then a pointer to C
  KLeft = Reg.r10,
  panels = Reg.r11,
  src = Reg.r12,
  c = Reg.r13,
  ldc = Reg.r14;
/** Rows 0 to 3, and 4 to 7, of each of two panels. */
const places = [
  [Reg.rbx, Reg.rcx],
  [Reg.rbp, Reg.rdi],
] as const;

export function rowCode(abi: Abi): Uint8Array {
  const x = new Assembler();
  const end = new Label();
  enter(x, abi);
  x.move(memory, Reg.rdi);
  for (const [register, at] of [
    [src, block.b],
    [c, block.c],
  ] as const) {
    x.load32(register, { base: args, at });
    x.add(register, memory);
  }
  x.load32(pitch, { base: args, at: block.pitch });
  x.lea(pitch3, { base: pitch, index: pitch, scale: 2 });
  x.load32(ldc, { base: args, at: block.ldc });
  x.load32(panels, { base: args, at: block.panels });
  x.load32(a, { base: args, at: block.rows });
  for (let rows = 1; rows <= mostRows; rows++) {
    const not = new Label();
    x.compare(a, { value: rows });
    x.jumpIf("notEqual", not);
    for (const together of [2, 1]) panelsOf(x, rows, together);
    x.jump(end);
    x.place(not);
  }
  x.place(end);
  leave(x, abi);
  return x.code();
}

/** As long as there are so many panels. */
function panelsOf(x: Assembler, rows: number, together: number): void {
  const again = new Label(),
    fewer = new Label(),
    chunk = new Label(),
    whole = new Label(),
    eight = new Label(),
    fresh = new Label(),
    next = new Label();
  const used = places.slice(0, together);
  const sum = (panel: number, row: number): number => panel * rows + row;
  x.place(again);
  x.compare(panels, { value: together });
  x.jumpIf("below", fewer);
  for (const [low, high] of used) {
    x.move(low, src);
    x.lea(high, { base: src, index: pitch, scale: 4 });
    x.lea(src, { base: src, index: pitch, scale: 8 });
  }
  x.load32(a, { base: args, at: block.a });
  x.add(a, memory);
  x.load32(KLeft, { base: args, at: block.K });
  x.load32(left, { base: args, at: block.add });
  x.store32({ base: args, at: block.adds }, left);

  x.place(chunk);
  x.move(left, KLeft);
  x.compare(left, { value: CHUNK });
  x.jumpIf("belowOrEqual", whole);
  x.moveValue(left, CHUNK);
  x.place(whole);
  x.sub(KLeft, left);
  for (let i = 0; i < together * rows; i++) x.zero(i);
  x.place(eight);
  for (const [panel, [low, high]] of used.entries()) {
    for (let i = 0; i < 4; i++) {
      const at = (base: Reg) => (i === 0 ? { base } : i === 3 ? { base, index: pitch3 } : { base, index: pitch, scale: i as 1 | 2 });
      x.load(128, 8 + i, at(low));
      x.insertUpper(8 + i, 8 + i, at(high));
    }
    x.interleaveLow(12, 8, 9);
    x.interleaveHigh(13, 8, 9);
    x.interleaveLow(14, 10, 11);
    x.interleaveHigh(15, 10, 11);
    x.shuffle(8, 12, 14, 0x44);
    x.shuffle(9, 12, 14, 0xee);
    x.shuffle(10, 13, 15, 0x44);
    x.shuffle(11, 13, 15, 0xee);
    for (let k = 0; k < 8; k++) {
      const word = 8 + (k >> 1);
      if (k % 2 === 1) x.shiftLanesRight(256, 12, word, 16);
      x.shiftLanesLeft(256, 12, k % 2 === 1 ? 12 : word, 16);
      for (let row = 0; row < rows; row++) {
        x.broadcast(256, 13, { base: a, at: 4 * (k * rows + row) });
        x.multiplyAdd(256, sum(panel, row), 13, 12);
      }
    }
    x.add(low, { value: 16 });
    x.add(high, { value: 16 });
  }
  x.add(a, { value: 32 * rows });
  x.sub(left, { value: 8 });
  x.jumpIf("notEqual", eight);

  x.load32(left, { base: args, at: block.adds });
  x.compare(left, { value: 0 });
  x.move(left, c);
  x.jumpIf("equal", fresh);
  const each = (body: (panel: number, row: number) => void): void => {
    for (let row = 0; row < rows; row++) {
      for (let panel = 0; panel < together; panel++) body(panel, row);
      x.add(left, ldc);
    }
  };
  each((panel, row) => {
    x.addFloats(256, sum(panel, row), sum(panel, row), { base: left, at: 32 * panel });
    x.store(256, { base: left, at: 32 * panel }, sum(panel, row));
  });
  x.jump(next);
  x.place(fresh);
  each((panel, row) => x.store(256, { base: left, at: 32 * panel }, sum(panel, row)));
  x.moveValue(left, 1);
  x.store32({ base: args, at: block.adds }, left);
  x.place(next);
  x.compare(KLeft, { value: 0 });
  x.jumpIf("notEqual", chunk);

  x.add(c, { value: 32 * together });
  x.sub(panels, { value: together });
  x.jump(again);
  x.place(fewer);
}
