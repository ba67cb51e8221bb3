/**
 * Machine code for packing: `packNative` and `packColumnsNative` of kernels/wasm/lib/pack.ts.
 *
 * Rows       A matrix that is stored by the rows of its panels. Eight rows become a panel, floats side by side; f16 and bf16 are widened on
 *            the way, so that weights are read from memory as they are.
 * Columns    A matrix whose rows hold the lanes of many panels, floats. A row is often a page further, where the processor looks for no
 *            row by itself, so the code asks for those that come.
 */
import { Assembler, Label, Reg, type Memory } from "./assembler.ts";
import { enter, leave, loadAddresses, type Abi } from "./calling.ts";

/** The call block. `kc`, a multiple of 4, elements of every row; `panels` panels, `panelBytes` apart, of 8 rows each, `pitch` bytes apart. */
const block = { dst: 0, src: 4, pitch: 8, kc: 12, dtype: 16, panels: 20, panelBytes: 24 };
const F32 = 0,
  F16 = 1,
  BF16 = 2;

const memory = Reg.rdi,
  args = Reg.rsi,
  dst = Reg.rax,
  low = Reg.rbx, // rows 0 to 3
  high = Reg.rcx, // rows 4 to 7
  pitch = Reg.rdx,
  pitch3 = Reg.r8,
  left = Reg.r9,
  panels = Reg.r10,
  dstPanel = Reg.r11,
  srcPanel = Reg.r12,
  pitch8 = Reg.r13;

export function packCode(abi: Abi): Uint8Array {
  const x = new Assembler();
  enter(x, abi);
  loadAddresses(x, memory, [
    [dstPanel, { base: args, at: block.dst }],
    [srcPanel, { base: args, at: block.src }],
  ]);
  x.load32(pitch, { base: args, at: block.pitch });
  x.lea(pitch3, { base: pitch, index: pitch, scale: 2 });
  x.move(pitch8, pitch);
  x.shiftLeft(pitch8, 3);
  x.load32(panels, { base: args, at: block.panels });
  x.load32(left, { base: args, at: block.dtype });
  x.select(left, [F32, F16, BF16], (dtype) => pack(x, dtype));
  leave(x, abi);
  return x.code();
}

function pack(x: Assembler, dtype: number): void {
  const bytes = dtype === F32 ? 4 : 2;
  const panel = new Label(),
    four = new Label(),
    done = new Label();
  x.place(panel);
  x.compare(panels, { value: 0 });
  x.jumpIf("equal", done);
  x.move(dst, dstPanel);
  x.move(low, srcPanel);
  x.lea(high, { base: low, index: pitch, scale: 4 });
  x.load32(left, { base: args, at: block.kc });
  x.place(four);
  // four elements of rows i and i + 4 side by side
  for (let i = 0; i < 4; i++) {
    const [from, too] = [rowFrom(low, i), rowFrom(high, i)];
    if (dtype === F32) {
      x.load(128, i, from);
      x.insertUpper(i, i, too);
      continue;
    }
    x.load64Bits(i, from);
    x.insertUpper64(i, i, too);
    if (dtype === F16) x.fromHalves(i, i);
    else {
      x.widen(i, i);
      x.shiftLanesLeft(256, i, i, 16);
    }
  }
  x.interleaveLow(4, 0, 1);
  x.interleaveHigh(5, 0, 1);
  x.interleaveLow(6, 2, 3);
  x.interleaveHigh(7, 2, 3);
  for (const [k, [a, b, lanes]] of [
    [4, 6, 0x44],
    [4, 6, 0xee],
    [5, 7, 0x44],
    [5, 7, 0xee],
  ].entries() as Iterable<[number, [number, number, number]]>) {
    x.shuffle(0, a, b, lanes);
    x.store(256, { base: dst, at: 32 * k }, 0);
  }
  x.add(dst, { value: 128 });
  x.add(low, { value: 4 * bytes });
  x.add(high, { value: 4 * bytes });
  x.sub(left, { value: 4 });
  x.jumpIf("notEqual", four);
  x.add(srcPanel, pitch8);
  x.load32(left, { base: args, at: block.panelBytes });
  x.add(dstPanel, left);
  x.sub(panels, { value: 1 });
  x.jump(panel);
  x.place(done);
}

/** Row i, of 4. */
function rowFrom(base: Reg, i: number): Memory {
  return i === 0 ? { base } : i === 3 ? { base, index: pitch3 } : { base, index: pitch, scale: i as 1 | 2 };
}

/** Panels of `lanes` floats, 5 or 8, `panelBytes` apart: `kc` rows of all of them, rows of the source `pitch` bytes apart. */
const columns = { dst: 0, src: 4, pitch: 8, kc: 12, lanes: 16, panels: 20, panelBytes: 24 };
/** Rows that are asked for before they are read. */
const AHEAD = 16;

export function packColumnsCode(abi: Abi): Uint8Array {
  const [ahead, dstRow, srcRow, panelBytes] = [Reg.r8, Reg.r11, Reg.r12, Reg.r13];
  const x = new Assembler();
  enter(x, abi);
  loadAddresses(x, memory, [
    [dstRow, { base: args, at: columns.dst }],
    [srcRow, { base: args, at: columns.src }],
  ]);
  x.load32(pitch, { base: args, at: columns.pitch });
  x.move(ahead, pitch);
  x.shiftLeft(ahead, Math.log2(AHEAD));
  x.load32(panelBytes, { base: args, at: columns.panelBytes });
  x.load32(left, { base: args, at: columns.kc });
  x.load32(panels, { base: args, at: columns.lanes });
  x.select(panels, [5, 8], (lanes) => {
    const row = new Label(),
      panel = new Label();
    x.place(row);
    x.move(low, srcRow);
    x.move(dst, dstRow);
    x.load32(panels, { base: args, at: columns.panels });
    x.align(16);
    x.place(panel);
    x.prefetch({ base: low, index: ahead });
    x.load(lanes === 8 ? 256 : 128, 0, { base: low });
    if (lanes === 5) x.loadFloat(1, { base: low, at: 16 });
    x.store(lanes === 8 ? 256 : 128, { base: dst }, 0);
    if (lanes === 5) x.storeFloat({ base: dst, at: 16 }, 1);
    x.add(low, { value: 4 * lanes });
    x.add(dst, panelBytes);
    x.sub(panels, { value: 1 });
    x.jumpIf("notEqual", panel);
    x.add(srcRow, pitch);
    x.add(dstRow, { value: 4 * lanes });
    x.sub(left, { value: 1 });
    x.jumpIf("notEqual", row);
  });
  leave(x, abi);
  return x.code();
}
