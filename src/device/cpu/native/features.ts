/** Which vector instructions the processor has and the system lets programs use. */
import { Assembler, Label, Reg } from "./assembler.ts";
import { enter, leave, type Abi } from "./calling.ts";
import type { VectorSet } from "./products.ts";

/** Code of `void f(void* memory, uint32_t at)`: four words, the highest leaf of cpuid, ecx of leaf 1, ebx of leaf 7, XCR0. */
export function featureCode(abi: Abi): Uint8Array {
  const x = new Assembler(),
    out = Reg.r8,
    none = new Label();
  enter(x, abi);
  x.move(out, Reg.rsi);
  const leaf = (n: number): void => {
    x.moveValue(Reg.rax, n);
    x.moveValue(Reg.rcx, 0);
    x.cpuid();
  };
  leaf(0);
  x.store32({ base: out, at: 0 }, Reg.rax);
  leaf(1);
  x.store32({ base: out, at: 4 }, Reg.rcx);
  x.move(Reg.rax, Reg.rcx);
  x.and(Reg.rax, OSXSAVE);
  x.compare(Reg.rax, { value: 0 });
  x.jumpIf("equal", none);
  leaf(7);
  x.store32({ base: out, at: 8 }, Reg.rbx);
  x.moveValue(Reg.rcx, 0);
  x.xgetbv();
  x.store32({ base: out, at: 12 }, Reg.rax);
  x.place(none);
  leave(x, abi);
  return x.code();
}

// Intel manual, volume 2, CPUID, and volume 1, 13.3: XCR0
const FMA = 1 << 12,
  OSXSAVE = 1 << 27;
const AVX2 = 1 << 5,
  AVX512F = 1 << 16,
  AVX512VL = 1 << 31;
const YMM = 0b110,
  ZMM = 0b11100110;

/** From the words that `featureCode` writes. */
export function vectorSets([leaves = 0, one = 0, seven = 0, xcr0 = 0]: Uint32Array): VectorSet[] {
  const all = (word: number, bits: number): boolean => (word & bits) === bits;
  if (leaves < 7 || !all(one, FMA | OSXSAVE) || !all(seven, AVX2) || !all(xcr0, YMM)) return [];
  return all(seven, AVX512F | AVX512VL) && all(xcr0, ZMM) ? ["AVX2", "AVX-512"] : ["AVX2"];
}
