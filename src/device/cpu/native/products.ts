/**
 * Machine code for the inner loops of kernels/wasm/lib/gemm.ts: one K chunk of all rows and all whole panels of a block of C, on the same
 * packed operands. Every element is the same chain of fused multiply-adds as in the relaxed build, so it has the same bits.
 *
 * AVX2      5 rows by 2 panels of 8: 10 sums of 256 bits, 2 of B, 1 of A in 16 registers.
 * AVX-512   10 rows by 4 panels: 20 sums of 512 bits, each over 2 panels. Panels lie apart, so that a vector of B is loaded in halves.
 * Fewer rows take more panels at once, so that at least 8 sums (AVX2) or what the loads allow are under way.
 */
import { Assembler, Label, Reg, multipleOf, type Memory } from "./assembler.ts";
import { enter, leave, loadAddresses, type Abi } from "./calling.ts";

export type VectorSet = "AVX2" | "AVX-512";

/** The call block: words of 32 bits, the first three addresses in the WASM memory. `full` row panels of 5, then one of `rest` rows. */
const block = { a: 0, b: 4, c: 8, ldc: 12, kc: 16, stride: 20, panels: 24, full: 28, rest: 32, add: 36 };
/** Rows of a row panel: MR of kernels/wasm/lib/pack.ts. */
const MR = 5;
/** Bytes of 8 columns. */
const PANEL = 32;
const UNROLL = 4;

/** Panels at a time, for blocks with row panels of 5 and for fewer rows; the last is 1. */
const widths: Readonly<Record<VectorSet, Readonly<Record<number, readonly number[]>>>> = {
  AVX2: { 1: [8, 4, 1], 2: [4, 1], 3: [4, 1], 4: [2, 1], [MR]: [2, 1] },
  "AVX-512": { 1: [8, 4, 2, 1], 2: [8, 2, 1], 3: [8, 2, 1], 4: [8, 2, 1], [MR]: [4, 2, 1] },
};

// what registers hold all the time
const args = Reg.rsi,
  stride = Reg.rcx,
  stride3 = Reg.r13,
  stride5 = Reg.r14,
  stride7 = Reg.r15,
  aStart = Reg.r8,
  bStart = Reg.r9,
  cStart = Reg.r10,
  ldc = Reg.r11;
// and inside a column of blocks; `a2` is the row panel after `a`
const a = Reg.rax,
  a2 = Reg.rdi,
  bNext = Reg.rdi, // of few rows, which have no a2
  b = Reg.rbx,
  bEnd = Reg.rbp,
  c = Reg.rdx,
  count = Reg.r12;

export function productCode(set: VectorSet, abi: Abi): Uint8Array {
  const x = new Assembler();
  const end = new Label(),
    few = new Label();
  enter(x, abi);
  loadAddresses(x, Reg.rdi, [
    [aStart, { base: args, at: block.a }],
    [bStart, { base: args, at: block.b }],
    [cStart, { base: args, at: block.c }],
  ]);
  x.load32(ldc, { base: args, at: block.ldc });
  x.load32(stride, { base: args, at: block.stride });
  x.lea(stride3, { base: stride, index: stride, scale: 2 });
  x.lea(stride5, { base: stride, index: stride, scale: 4 });
  x.lea(stride7, { base: stride3, index: stride, scale: 4 });
  x.load32(count, { base: args, at: block.full });
  x.compare(count, { value: 0 });
  x.jumpIf("equal", few);
  columns(x, widths[set][MR] ?? [1], end, (w) => {
    rowPanels(x, set, w);
    onRest(x, (h) => micro(x, { set, h, w }));
  });
  x.place(few);
  onRest(x, (h) => columns(x, widths[set][h] ?? [1], end, (w) => micro(x, { set, h, w, ask: true })));
  x.place(end);
  leave(x, abi);
  return x.code();
}

/** All whole row panels by w panels: with AVX-512 two at a time. The first asks for the panels that come next. */
function rowPanels(x: Assembler, set: VectorSet, w: number): void {
  const next = new Label(),
    one = new Label(),
    done = new Label();
  x.load32(count, { base: args, at: block.full });
  if (set === "AVX2") {
    micro(x, { set, h: MR, w, ask: true });
    x.sub(count, { value: 1 });
    x.jumpIf("equal", done);
    x.place(next);
    micro(x, { set, h: MR, w });
    x.sub(count, { value: 1 });
    x.jumpIf("notEqual", next);
    x.place(done);
    return;
  }
  x.compare(count, { value: 2 });
  x.jumpIf("below", one);
  micro(x, { set, h: 2 * MR, w, ask: true });
  x.sub(count, { value: 2 });
  x.place(next);
  x.compare(count, { value: 2 });
  x.jumpIf("below", one);
  micro(x, { set, h: 2 * MR, w });
  x.sub(count, { value: 2 });
  x.jump(next);
  x.place(one);
  x.compare(count, { value: 0 });
  x.jumpIf("equal", done);
  micro(x, { set, h: MR, w, ask: true }); // often the only one
  x.place(done);
}

/** `body` for as many rows as are left after row panels of 5, if any. */
function onRest(x: Assembler, body: (rows: number) => void): void {
  x.load32(count, { base: args, at: block.rest });
  x.select(count, [1, 2, 3, 4], body);
}

/** All panels, as many at a time as `list` says, then to `end`. `body` leaves a and c as it likes. */
function columns(x: Assembler, list: readonly number[], end: Label, body: (w: number) => void): void {
  for (const w of list) {
    const again = new Label(),
      fewer = new Label();
    x.place(again);
    x.load32(count, { base: args, at: block.panels });
    x.compare(count, { value: w });
    x.jumpIf("below", fewer);
    x.sub(count, { value: w });
    x.store32({ base: args, at: block.panels }, count);
    x.move(a, aStart);
    x.move(c, cStart);
    body(w);
    x.lea(bStart, panel(bStart, w));
    x.add(cStart, { value: PANEL * w });
    x.jump(again);
    x.place(fewer);
  }
  x.jump(end);
}

interface Micro {
  readonly set: VectorSet;
  readonly h: number;
  readonly w: number;
  /** Whether the panels after these are asked for, which lie too far off for the processor to see them coming. */
  readonly ask?: boolean;
}

/** h rows of C by w panels, from a, bStart and c; a and c move on to the next rows. */
function micro(x: Assembler, { set, h, w, ask = false }: Micro): void {
  const wide = set === "AVX-512" && w > 1;
  const bits = wide ? 512 : 256,
    bytes = bits / 8,
    vectors = wide ? w / 2 : w;
  const sum = (i: number, j: number): number => i * vectors + j;
  const free = h * vectors;

  for (let s = 0; s < free; s++) x.zero(s);
  if (h > MR) {
    x.load32(a2, { base: args, at: block.kc });
    x.lea(a2, { base: a2, index: a2, scale: 4 });
    x.lea(a2, { base: a, index: a2, scale: 4 });
  }
  x.move(b, bStart);
  if (ask && w > 4) x.lea(bNext, panel(bStart, w));
  x.load32(bEnd, { base: args, at: block.kc });
  x.and(bEnd, -UNROLL);
  steps(UNROLL);
  x.load32(bEnd, { base: args, at: block.kc });
  steps(1);
  if (h > MR) x.move(a, a2);

  const put = new Label();
  x.load32(bEnd, { base: args, at: block.add });
  x.compare(bEnd, { value: 0 });
  x.jumpIf("equal", put);
  x.move(b, c);
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < vectors; j++) x.addFloats(bits, sum(i, j), sum(i, j), { base: b, at: bytes * j });
    if (i + 1 < h) x.add(b, ldc);
  }
  x.place(put);
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < vectors; j++) x.store(bits, { base: c, at: bytes * j }, sum(i, j));
    x.add(c, ldc);
  }

  // so many k's at a time, as long as there are that many before bEnd, a number of k's from bStart
  function steps(k: number): void {
    const loop = new Label(),
      done = new Label();
    x.shiftLeft(bEnd, Math.log2(PANEL));
    x.add(bEnd, bStart);
    x.compare(b, bEnd);
    x.jumpIf("aboveOrEqual", done);
    x.align(32);
    x.place(loop);
    for (let i = 0; i < k; i++) {
      if (ask && i % 2 === 1) for (let j = 0; j < w; j++) askFor(j, i - 1);
      one(i);
    }
    x.add(a, { value: 4 * Math.min(h, MR) * k });
    if (h > MR) x.add(a2, { value: 4 * MR * k });
    x.add(b, { value: PANEL * k });
    if (ask && w > 4) x.add(bNext, { value: PANEL * k });
    x.compare(b, bEnd);
    x.jumpIf("below", loop);
    x.place(done);
  }

  function one(k: number): void {
    if (vectors <= h || wide) {
      // B in registers, one row of A at a time
      for (let j = 0; j < vectors; j++) vectorOfB(free + j, j, k);
      for (let i = 0; i < h; i++) {
        x.broadcast(bits, free + vectors, rowOfA(i, k));
        for (let j = 0; j < vectors; j++) x.multiplyAdd(bits, sum(i, j), free + vectors, free + j);
      }
      return;
    }
    for (let i = 0; i < h; i++) x.broadcast(bits, free + i, rowOfA(i, k));
    for (let j = 0; j < vectors; j++) {
      if (h === 1) x.multiplyAdd(bits, sum(0, j), free, panel(b, j, PANEL * k));
      else {
        vectorOfB(free + h, j, k);
        for (let i = 0; i < h; i++) x.multiplyAdd(bits, sum(i, j), free + i, free + h);
      }
    }
  }

  // a line of the panel w after panel j
  function askFor(j: number, k: number): void {
    if (w <= 4) x.prefetch(panel(b, w + j, PANEL * k));
    else x.prefetch(panel(bNext, j, PANEL * k));
  }

  function vectorOfB(to: number, j: number, k: number): void {
    x.load(256, to, panel(b, wide ? 2 * j : j, PANEL * k));
    if (wide) x.loadUpper(to, panel(b, 2 * j + 1, PANEL * k));
  }

  function rowOfA(i: number, k: number): Memory {
    return i < MR ? { base: a, at: 4 * (i + Math.min(h, MR) * k) } : { base: a2, at: 4 * (i - MR + MR * k) };
  }
}

/** Where panel j lies, counted from that at `base`. */
function panel(base: Reg, j: number, at = 0): Memory {
  return multipleOf({ one: stride, three: stride3, five: stride5, seven: stride7 }, j, base, at);
}
