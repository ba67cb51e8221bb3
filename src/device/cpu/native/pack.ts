/**
 * Machine code for packing a matrix that is stored by the rows of its panels: `packRows` of kernels/wasm/lib/pack.ts. Eight rows become a
 * panel, floats side by side; f16 and bf16 are widened on the way, so that weights are read from memory as they are.
 */
import { Assembler, Label, Reg } from "./assembler.ts";
import { enter, leave, type Abi } from "./calling.ts";

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
  const end = new Label();
  enter(x, abi);
  for (const [register, at] of [
    [dstPanel, block.dst],
    [srcPanel, block.src],
  ] as const) {
    x.load32(register, { base: args, at });
    x.add(register, memory);
  }
  x.load32(pitch, { base: args, at: block.pitch });
  x.lea(pitch3, { base: pitch, index: pitch, scale: 2 });
  x.move(pitch8, pitch);
  x.shiftLeft(pitch8, 3);
  x.load32(panels, { base: args, at: block.panels });
  x.load32(left, { base: args, at: block.dtype });
  for (const dtype of [F32, F16, BF16]) {
    const not = new Label();
    x.compare(left, { value: dtype });
    x.jumpIf("notEqual", not);
    pack(x, dtype);
    x.jump(end);
    x.place(not);
  }
  x.place(end);
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
    const [from, too] = [low, high].map((base) =>
      i === 0 ? { base } : i === 3 ? { base, index: pitch3 } : { base, index: pitch, scale: i as 1 | 2 },
    ) as [{ base: Reg }, { base: Reg }];
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
