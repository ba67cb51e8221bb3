/**
 * Machine code for a product of few rows with bf16 weights that are stored by their outputs: C[rows x N] (+)= A B^T, B [N, K] read as it lies,
 * once. What a decode step of a large model waits for is its memory; panels of floats would be twice the bytes.
 *
 * Every element is the chain of kernels/wasm/lib/gemm.ts: chunks of 256 in K, each summed from 0 in the order of k, added in order. Eight outputs
 * are the lanes of a vector: 8 rows of 4 words are transposed, and a word holds the weights of two k's. A chain waits 4 cycles for each k, so
 * several panels are under way: of one row, 4 panels read 32 rows of B at once, too many for the processor to look ahead in by itself, and
 * short ones. So the code asks for what it will read, at the end of a row for the beginning of the next panels.
 */
import { Assembler, Label, Reg, multipleOf, type Memory } from "./assembler.ts";
import { enter, leave, loadAddresses, type Abi } from "./calling.ts";

/** The call block. `a` is packed [K][rows]; K is a multiple of 8; `panels` of 8 outputs; `add`: C has its first summand already. */
const block = { a: 0, b: 4, c: 8, ldc: 12, K: 16, pitch: 20, panels: 24, rows: 28, add: 32 };
/** Words that the code keeps there: `adds` for these panels, bytes from the end of their rows to the next panels' begin, a mask. */
const kept = { adds: 36, turn: 40, mask: 44 };
/** KC of kernels/wasm/lib/pack.ts. */
const CHUNK = 256;
/** Panels at a time for 1, 2, ... rows: MOST_ROWS of kernels/wasm/matmul.ts. There is room for 8 sums. */
const widths = [
  [4, 1],
  [4, 1],
  [2, 1],
  [2, 1],
] as const;
/** Bytes in each row between what is asked for and what is read. */
const AHEAD = 512;
/** k's whose weights fill a line of the cache. */
const LINE = 32;

const args = Reg.rsi,
  a = Reg.rax,
  pitch = Reg.rdx,
  pitch3 = Reg.r8,
  pitch5 = Reg.r10,
  pitch7 = Reg.r15,
  left = Reg.r9, // k's left,
  after = Reg.r14, // and after this chunk
  asked = Reg.r11,
  out = Reg.r12,
  c = Reg.r13;
/** The first rows of the panels. */
const places = [Reg.rbx, Reg.rcx, Reg.rbp, Reg.rdi] as const;
const mask = 15;

export function rowCode(abi: Abi): Uint8Array {
  const x = new Assembler();
  enter(x, abi);
  loadAddresses(x, Reg.rdi, [
    [a, { base: args, at: block.a }],
    [places[0], { base: args, at: block.b }],
    [c, { base: args, at: block.c }],
  ]);
  x.load32(pitch, { base: args, at: block.pitch });
  x.lea(pitch3, { base: pitch, index: pitch, scale: 2 });
  x.lea(pitch5, { base: pitch, index: pitch, scale: 4 });
  x.lea(pitch7, { base: pitch3, index: pitch, scale: 4 });
  x.moveValue(left, 0xffff0000);
  x.store32({ base: args, at: kept.mask }, left);
  x.broadcast(256, mask, { base: args, at: kept.mask });
  x.load32(left, { base: args, at: block.rows });
  x.select(left, [1, 2, 3, 4], (rows) => {
    for (const together of widths[rows - 1] ?? []) panelsOf(x, rows, together);
  });
  leave(x, abi);
  return x.code();
}

/** As long as there are so many panels. */
function panelsOf(x: Assembler, rows: number, together: 4 | 2 | 1): void {
  const again = new Label(),
    fewer = new Label(),
    chunk = new Label(),
    last = new Label(),
    eight = new Label(),
    fresh = new Label(),
    put = new Label();
  const used = places.slice(0, together);
  const sum = (panel: number, row: number): number => panel * rows + row;

  x.move(asked, pitch);
  x.shiftLeft(asked, Math.log2(8 * together));
  for (let i = 0; i < 2; i++) {
    x.load32(left, { base: args, at: block.K });
    x.sub(asked, left);
  }
  x.store32({ base: args, at: kept.turn }, asked);

  x.place(again);
  x.load32(left, { base: args, at: block.panels });
  x.compare(left, { value: together });
  x.jumpIf("below", fewer);
  x.sub(left, { value: together });
  x.store32({ base: args, at: block.panels }, left);
  for (let i = 1; i < together; i++) x.lea(places[i] ?? a, { base: places[i - 1] ?? a, index: pitch, scale: 8 });
  x.load32(left, { base: args, at: block.add });
  x.store32({ base: args, at: kept.adds }, left);
  x.load32(left, { base: args, at: block.K });

  x.place(chunk);
  x.move(asked, places[0]);
  x.moveValue(after, 0);
  x.compare(left, { value: CHUNK });
  x.jumpIf("belowOrEqual", last);
  x.move(after, left);
  x.sub(after, { value: CHUNK });
  x.place(last);
  for (let i = 0; i < together * rows; i++) x.zero(i);
  x.place(eight);
  ask();
  for (const [panel, base] of used.entries()) {
    words(x, base);
    for (let k = 0; k < 8; k++) {
      if (k % 2 === 0) x.shiftLanesLeft(256, 12, 8 + (k >> 1), 16);
      else x.andBits(256, 12, 8 + (k >> 1), mask);
      for (let row = 0; row < rows; row++) {
        x.broadcast(256, 13, { base: a, at: 4 * (k * rows + row) });
        x.multiplyAdd(256, sum(panel, row), 13, 12);
      }
    }
    x.add(base, { value: 16 });
  }
  x.add(a, { value: 32 * rows });
  x.sub(left, { value: 8 });
  x.compare(left, after);
  x.jumpIf("notEqual", eight);

  x.move(out, c);
  x.load32(asked, { base: args, at: block.ldc });
  x.load32(after, { base: args, at: kept.adds });
  x.compare(after, { value: 0 });
  x.jumpIf("equal", fresh);
  each((panel, row) => {
    x.addFloats(256, sum(panel, row), sum(panel, row), { base: out, at: 32 * panel });
    x.store(256, { base: out, at: 32 * panel }, sum(panel, row));
  });
  x.jump(put);
  x.place(fresh);
  each((panel, row) => x.store(256, { base: out, at: 32 * panel }, sum(panel, row)));
  x.moveValue(after, 1);
  x.store32({ base: args, at: kept.adds }, after);
  x.place(put);
  x.compare(left, { value: 0 });
  x.jumpIf("notEqual", chunk);

  x.load32(left, { base: args, at: kept.turn });
  x.add(places[0], left);
  x.load32(left, { base: args, at: block.K });
  x.shiftLeft(left, 2);
  for (let row = 0; row < rows; row++) x.sub(a, left);
  x.add(c, { value: 32 * together });
  x.jump(again);
  x.place(fewer);

  function each(body: (panel: number, row: number) => void): void {
    for (let row = 0; row < rows; row++) {
      for (let panel = 0; panel < together; panel++) body(panel, row);
      x.add(out, asked);
    }
  }

  // a quarter of the rows' next lines each time
  function ask(): void {
    const same = new Label(),
      inside = new Label();
    x.test(left, LINE - 1);
    x.jumpIf("notEqual", same);
    x.lea(asked, { base: places[0], at: AHEAD });
    x.compare(left, { value: AHEAD / 2 });
    x.jumpIf("above", inside);
    x.load32(out, { base: args, at: kept.turn });
    x.add(asked, out);
    x.place(inside);
    x.place(same);
    for (let i = 0; i < 2 * together; i++) x.prefetch(rowFrom(asked, i));
    x.lea(asked, rowFrom(asked, 2 * together));
  }
}

/** Eight rows of 8 weights from `base` on: registers 8 to 11 hold those of k and k + 1, k 0, 2, 4 and 6, in the words of 8 lanes. */
function words(x: Assembler, base: Reg): void {
  for (let i = 0; i < 4; i++) {
    x.load(128, 8 + i, rowFrom(base, i));
    x.insertUpper(8 + i, 8 + i, rowFrom(base, i + 4));
  }
  x.interleaveLow(12, 8, 9);
  x.interleaveHigh(13, 8, 9);
  x.interleaveLow(14, 10, 11);
  x.interleaveHigh(11, 10, 11);
  x.shuffle(8, 12, 14, 0x44);
  x.shuffle(9, 12, 14, 0xee);
  x.shuffle(10, 13, 11, 0x44);
  x.shuffle(11, 13, 11, 0xee);
}

function rowFrom(base: Reg, i: number): Memory {
  return multipleOf({ one: pitch, three: pitch3, five: pitch5, seven: pitch7 }, i, base);
}
