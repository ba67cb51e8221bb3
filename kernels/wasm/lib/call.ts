// How a kernel sees its call. The device writes one call block per kernel; every worker reads the same block.
//
// Call block   f64 dims in the order of src/device/kernels.ts, then u32 descriptor addresses: inputs in order, outputs in order
//              (0 = absent). Word -1 (args - 4) is the address of the call's shared scratch, if the kernel asked for any.
// Descriptor   one per storage, 32 bytes:
//              0 table: address of the shards' base addresses   4 rowShift   8 rowMask   12 rowBytes
//              16 rows   20 cols   24 dtype (0 f32, 1 f16, 2 bf16, 3 u32)   28 cached panels (matmul's own), or 0
// Kernel       each kernel file exports, under its table name:
//                NAME_items(args, phase): i32      number of independent work items of a phase; -1 = no such phase
//                NAME_work(args, phase, item, scratch): void
//                NAME_scratch(args): usize         (optional) bytes of scratch shared by all workers of this call
//              Items of one phase run in any order on any thread; phases are separated by a barrier. What an item computes must not
//              depend on the number of threads. `scratch` is SCRATCH_BYTES private to the thread, 64-byte aligned.

export const SCRATCH_BYTES: usize = 4 << 20;

// @ts-ignore: decorator
@inline export function dim(args: usize, i: i32): f64 { return load<f64>(args + (<usize>i << 3)); }
// @ts-ignore: decorator
@inline export function dimI(args: usize, i: i32): i32 { return <i32>load<f64>(args + (<usize>i << 3)); }
/** Descriptor address of tensor j (inputs first, then outputs) in a call with `dims` dims; 0 if absent. */
// @ts-ignore: decorator
@inline export function tensor(args: usize, dims: i32, j: i32): usize { return load<u32>(args + (<usize>dims << 3) + (<usize>j << 2)); }
// @ts-ignore: decorator
@inline export function sharedScratch(args: usize): usize { return load<u32>(args - 4); }

// @ts-ignore: decorator
@inline export function rowsOf(t: usize): i32 { return load<i32>(t, 16); }
// @ts-ignore: decorator
@inline export function colsOf(t: usize): i32 { return load<i32>(t, 20); }
// @ts-ignore: decorator
@inline export function dtypeOf(t: usize): i32 { return load<i32>(t, 24); }
/** Address of the first element of a row, whichever shard it lies in. Rows r and r+1 are adjacent only inside one shard. */
// @ts-ignore: decorator
@inline export function rowPtr(t: usize, row: i32): usize {
  return <usize>load<u32>(<usize>load<u32>(t) + (<usize>(<u32>row >>> load<u32>(t, 4)) << 2)) + <usize>(<u32>row & load<u32>(t, 8)) * <usize>load<u32>(t, 12);
}
/** Rows from `row` on that are contiguous in memory. */
// @ts-ignore: decorator
@inline export function contiguousRows(t: usize, row: i32): i32 {
  const inShard = <i32>(load<u32>(t, 8) - (<u32>row & load<u32>(t, 8))) + 1;
  const left = rowsOf(t) - row;
  return inShard <= 0 || inShard > left ? left : inShard;
}

export const F32: i32 = 0;
export const F16: i32 = 1;
export const BF16: i32 = 2;
export const U32: i32 = 3;
