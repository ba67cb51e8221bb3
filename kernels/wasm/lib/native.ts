// What the host may bring as machine code (src/device/cpu/native/), each called with the address of its call block. Without it the imports do
// nothing and are never called.
import { madd } from "./math";

// @ts-ignore: decorator
@external("env", "products") export declare function nativeProducts(block: usize): void;
// @ts-ignore: decorator
@external("env", "attend") export declare function nativeAttend(block: usize): void;
// @ts-ignore: decorator
@external("env", "attendBackward") export declare function nativeAttendBackward(block: usize): void;
// @ts-ignore: decorator
@external("env", "packRows") export declare function nativePackRows(block: usize): void;
// @ts-ignore: decorator
@external("env", "packColumns") export declare function nativePackColumns(block: usize): void;
// @ts-ignore: decorator
@external("env", "rows") export declare function nativeRows(block: usize): void;

/** Where this thread's call blocks lie; 0 without machine code. Every thread has its own module instance, and so its own copy. */
export let nativeBlock: usize = 0;

/** From now on this thread calls machine code, with its call blocks at `block`: 128 bytes. */
export function useNative(block: usize): void { nativeBlock = block; }

/** Whether `madd` rounds once here, as machine code does: (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24 then, else 0. */
export function isFused(): bool {
  const x = f32x4.splat(1.000244140625);
  return f32x4.extract_lane(madd(x, x, f32x4.splat(-1.00048828125)), 0) != 0;
}

/** Whether `bytes` bytes from `start` on lie in the memory: what WebAssembly would check of every access. */
// @ts-ignore: decorator
@inline export function inMemory(start: usize, bytes: u64): bool { return <u64>start + bytes <= <u64>memory.size() << 16; }
