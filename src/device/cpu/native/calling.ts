/** How native code is called: `void f(void* memory, uint32_t block)`, where `block` is the address of its arguments in the WASM memory. */
import { Reg, type Assembler, type Memory } from "./assembler.ts";

/** The calling convention of Linux and macOS, or of Windows. */
export type Abi = "sysv" | "win64";

const saved = [Reg.rbx, Reg.rbp, Reg.r12, Reg.r13, Reg.r14, Reg.r15];

/** Saves what belongs to the caller; afterwards rdi is the memory and rsi the address of the block. */
export function enter(x: Assembler, abi: Abi): void {
  for (const register of saved) x.push(register);
  if (abi === "win64") {
    // rdi, rsi and the low halves of xmm6 to xmm15 are the caller's there
    x.push(Reg.rdi);
    x.push(Reg.rsi);
    x.sub(Reg.rsp, { value: 160 });
    for (let i = 6; i < 16; i++) x.store(128, { base: Reg.rsp, at: 16 * (i - 6) }, i);
    x.move(Reg.rdi, Reg.rcx);
    x.move(Reg.rsi, Reg.rdx);
  }
  x.zeroExtend(Reg.rsi);
  x.add(Reg.rsi, Reg.rdi);
}

/** Words of the call block, which are addresses in the WASM memory, as addresses of the process. */
export function loadAddresses(x: Assembler, memory: Reg, places: readonly (readonly [Reg, Memory])[]): void {
  for (const [register, at] of places) {
    x.load32(register, at);
    x.add(register, memory);
  }
}

export function leave(x: Assembler, abi: Abi): void {
  x.vzeroupper();
  if (abi === "win64") {
    for (let i = 6; i < 16; i++) x.load(128, i, { base: Reg.rsp, at: 16 * (i - 6) });
    x.add(Reg.rsp, { value: 160 });
    x.pop(Reg.rsi);
    x.pop(Reg.rdi);
  }
  for (const register of [...saved].reverse()) x.pop(register);
  x.ret();
}
